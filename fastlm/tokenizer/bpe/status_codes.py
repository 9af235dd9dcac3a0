"""Negative numbers that kernels return in place of a count."""

DONE = 0  # for a kernel that counts nothing
# A kernel returns one of these to Python, which makes room and calls again, or raises an error.
TABLE_FULL, ARENA_FULL, OUT_FULL, SCRATCH_FULL, INVALID_TEXT, UNKNOWN_BYTE = range(-1, -7, -1)
# next_window returns these too.
AT_END, AT_BORDER, AT_LONG_TOKEN = range(-7, -10, -1)
