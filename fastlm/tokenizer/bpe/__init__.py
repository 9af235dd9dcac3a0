"""Byte-level BPE on integers and bytes: no files, no PyTorch.

reference.py is the plain truth; pretokenize.py, count.py, merge.py and encode.py are its compiled
twins, and small.py does the same in plain Python for texts too small to compile for. compiler.py
compiles kernels, and context.py is the memory they work on. numba's cache notices a change only in
the file that defines a kernel: after editing a function that another file calls, or the number of a
field, delete fastlm/tokenizer/bpe/__pycache__.
"""
