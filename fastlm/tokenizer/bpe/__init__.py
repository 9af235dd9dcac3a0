"""Byte-level BPE on integers and bytes: no files, no PyTorch.

reference.py is the plain truth; pretokenize.py, count.py, merge.py and encode.py are its compiled
twins, small.py does the same in plain Python for texts too small to compile for, and memory.py says
how kernels see memory. numba's cache notices a change only in the file a kernel is defined in:
after editing a function that another file calls, delete fastlm/bpe/__pycache__.
"""
