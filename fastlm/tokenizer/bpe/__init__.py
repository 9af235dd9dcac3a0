"""Byte-level BPE on integers and bytes: no files, no PyTorch.

reference.py defines the results in plain Python; pretokenize.py, count.py, merge.py and encode.py
compute them in compiled code, and small.py in plain Python for texts too small to be worth
compiling for. compiler.py compiles the kernels, and context.py is the memory they work on. numba's
cache notices a change only in the file that defines a kernel: after editing a function that another
file calls, or the number of a field, delete fastlm/tokenizer/bpe/__pycache__.
"""
