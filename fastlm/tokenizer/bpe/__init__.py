"""Byte-level BPE on integers and bytes: no files, no PyTorch.

reference.py defines the results in plain Python; pretokenize.py, count.py, merge.py and encode.py
compute them in compiled code, and small.py in plain Python for texts too small to be worth
compiling for. compiler.py marks the kernels, build.py compiles them, machine_code.py keeps and
loads the result, and context.py is the memory they work on.
"""
