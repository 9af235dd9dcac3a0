"""Field numbers of the context that learning merges works on (merge.py, pair_heap.py)."""

# Symbol s spells TEXT[PLACE[s] : PLACE[s] + LENGTH[s]]; PREFIX[s] is its first 8 bytes, big-endian,
# with zeros past the end, so that comparing two prefixes compares the bytes.
TEXT, PLACE, LENGTH, PREFIX, N_SYMBOLS, MAX_SYMBOLS = range(6)
# Pair p is the symbols LEFT[p] and RIGHT[p], at POSITIONS[BEGIN[p] : END[p]].
LEFT, RIGHT, BEGIN, END, N_PAIRS, MAX_PAIRS = range(6, 12)
# The heap orders pairs by an upper bound of their count, then by their two byte strings.
BOUND, PAIR, N_HEAP = range(12, 15)
# SYMBOLS has the symbol of each slot of TEXT; MERGED has the pairs merged, in the order learned.
SYMBOLS, POSITIONS, N_POSITIONS, MERGED, N_LEARNED, MAX_TOKEN_BYTES = range(15, 21)
# The neighbours at the positions of one merge: AROUND has both neighbours of each position. By
# neighbour (its id + 1; 0 is a boundary), TOTALS has the sum of the counts, N_PLACES the number of
# positions. SEEN lists the neighbours that occur.
AROUND, TOTALS, N_PLACES, SEEN = range(21, 25)

N_FIELDS = 25
