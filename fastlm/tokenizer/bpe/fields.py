"""Field numbers of the context that counting and encoding work on (context.py).

A field whose name is a count, a size, an index or a flag holds that number. Each other field holds
the address of an array or, at the end of the list, of a shared function.
"""

# The walk through the documents of a text (segments.py, walk.py). POSITION and SEGMENT_END are byte
# offsets in the text; SPECIAL is the special token at SEGMENT_END, or -1.
DOCUMENT, POSITION, SEGMENT_END, SPECIAL = range(4)
BOUNDS, N_DOCUMENTS = range(4, 6)
SPECIAL_TEXT, SPECIAL_BOUNDS, N_SPECIALS, SPECIAL_FIRSTS, N_SPECIAL_FIRSTS = range(6, 11)
# next_window reports the special token it passed, or -1; whether a document has ended; and where a
# token ends that is too long for a window.
PASSED, HAS_ENDED, TOKEN_END = range(11, 14)

# The buffers of a window (pretokenize.py) and the keys of its tokens (words.py).
CLASS_OF, TEXT, LETTER_BITS, NUMBER_BITS, SPACE_BITS, START_BITS, STARTS, PLACES = range(14, 22)
KEY_MASKS, FIRSTS, SECONDS, SLOTS = range(22, 26)

# The hash table of words (words.py). IS_NEW says whether find_or_insert made the slot it returned.
TABLE, SLOT_MASK, N_WORDS, MAX_WORDS, ARENA, ARENA_SIZE, ARENA_USED, N_WORD_BYTES = range(26, 34)
IS_NEW = 34

# Encoding (encode.py, merge_word.py).
OUT, OUT_SIZE, N_OUT, ID_SHIFT, END_OF_TEXT, SPECIAL_IDS = range(35, 41)
BYTE_IDS, BYTE_PAIRS, PAIRS, PAIR_MASK, MERGED_IDS, TOKEN_LENGTHS = range(41, 47)
N_MERGES, VOCAB_SIZE, SCRATCH, SCRATCH_SIZE, SCRATCH_WANTED, RANK_LISTS = range(47, 53)
MERGED_OFFSET = 53

# Functions that several kernels call by address (compiler.shared).
NEXT_WINDOW, FIND_WORD = range(54, 56)

# The pattern of token_ends.py.
SCANNER, MAX_DIGITS, TAKES_END, WINDOW_BEGIN, WINDOW_END = range(56, 61)

# Words that are a token whatever merges would make of them (whole_words.py).
N_WHOLE, WHOLE_TEXT, WHOLE_BOUNDS, WHOLE_IDS, WHOLE_SLOTS, WHOLE_MASK = range(61, 67)

# Encoding of several documents: how many ids come before each, or 0 for no such array.
ID_BOUNDS = 67

# The status code of a kernel that returns something else.
STATUS = 68

# The size that an arena must have which is full.
ARENA_WANTED = 69

N_FIELDS = 70
