# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
"""Words that are a token whatever merges would make of them, and merges that rank by their token.

Few words are such: nearly every token is what merges make of its bytes. So only the others are
looked up, and only for a word that is in no table of words yet.
"""

from collections.abc import Mapping

from fastlm.lazy import numpy as np
from fastlm.tokenizer.bpe import fields as f
from fastlm.tokenizer.bpe import status_codes as codes
from fastlm.tokenizer.bpe.buffers import Buffer
from fastlm.tokenizer.bpe.compiler import kernel
from fastlm.tokenizer.bpe.context import (
    Context,
    i32,
    int32_at,
    int64_at,
    uint8_at,
    uint64_at,
)
from fastlm.tokenizer.bpe.merge_word import LINE, add_rank_lists, merge_word, whole_hash


def add_whole_words(context: Context, words: Mapping[bytes, int]) -> None:
    """Give a context with merges the words that are a token but not what merges make of them."""
    tokens = list(words)
    text = np.frombuffer(b"".join(tokens) or b"\0", np.uint8)
    bounds = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
    ids = np.fromiter(words.values(), np.int64, len(words))
    longest = max(map(len, tokens), default=1)
    trial = context.copy()
    add_rank_lists(trial)
    trial.hold(f.SCRATCH, np.empty(4 * longest + 1024, np.int32))
    trial.fields[f.SCRATCH_SIZE] = 4 * longest + 1024
    is_made = np.zeros(len(tokens) + 1, np.uint8)
    _find_made(
        trial.address,
        text.ctypes.data,
        bounds.ctypes.data,
        ids.ctypes.data,
        len(tokens),
        is_made.ctypes.data,
    )
    others = np.flatnonzero(is_made[:-1] == 0)
    if len(others) == 0:
        return
    kept = [tokens[i] for i in others]
    slots = np.full(1 << (2 * len(kept)).bit_length(), -1, np.int64)
    context.hold(f.WHOLE_TEXT, np.frombuffer(b"".join(kept), np.uint8))
    context.hold(f.WHOLE_BOUNDS, np.cumsum([0, *map(len, kept)], dtype=np.int64))
    context.hold(f.WHOLE_IDS, np.ascontiguousarray(ids[others]))
    context.hold(f.WHOLE_SLOTS, slots)
    context.fields[f.WHOLE_MASK] = len(slots) - 1
    _fill_slots(context.address, len(kept))
    context.fields[f.N_WHOLE] = len(kept)


def rank_by_id(context: Context) -> None:
    """Let the merges of a context rank by the id that they make, not by their place."""
    vocab_size = context.fields[f.VOCAB_SIZE]
    ids = Buffer(vocab_size, i32)
    _rank_by_id(context.address, ids.address)
    context.hold(f.MERGED_IDS, ids)
    context.fields[f.N_MERGES] = vocab_size
    context.fields[f.MERGED_OFFSET] = 0


@kernel
def _rank_by_id(address, ids_address):
    c, ids = int64_at(address), int32_at(ids_address)
    merged, pairs = int32_at(c[f.MERGED_IDS]), uint64_at(c[f.PAIRS])
    of_bytes = int32_at(c[f.BYTE_PAIRS])
    place = np.uint64((1 << 21) - 1)  # the bit above it belongs to the table
    for slot in range(c[f.PAIR_MASK] + LINE):
        if pairs[slot] != np.uint64(0xFFFFFFFFFFFFFFFF):
            made = np.uint64(merged[np.int64(pairs[slot] & place)])
            pairs[slot] = (pairs[slot] & ~place) | made
    for pair in range(1 << 16):
        if of_bytes[pair] < c[f.N_MERGES]:
            of_bytes[pair] = merged[of_bytes[pair]]
    for token_id in range(c[f.VOCAB_SIZE]):
        ids[token_id] = token_id
    return 0


@kernel
def _find_made(address, text_address, bounds_address, ids_address, n_words, is_made_address):
    """Set a byte for each word that merges make the token of its id."""
    c, text = int64_at(address), uint8_at(text_address)
    bounds, ids = int64_at(bounds_address), int64_at(ids_address)
    is_made = uint8_at(is_made_address)
    for word in range(n_words):
        n_ids, status = merge_word(c, text, bounds[word], bounds[word + 1] - bounds[word])
        if status == codes.DONE and n_ids == 1:
            is_made[word] = int32_at(c[f.SCRATCH])[0] == ids[word]
    return 0


@kernel
def _fill_slots(address, n_words):
    c = int64_at(address)
    text, bounds = uint8_at(c[f.WHOLE_TEXT]), int64_at(c[f.WHOLE_BOUNDS])
    slots, mask = int64_at(c[f.WHOLE_SLOTS]), c[f.WHOLE_MASK]
    for word in range(n_words):
        slot = whole_hash(text, bounds[word], bounds[word + 1] - bounds[word]) & mask
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = word
    return 0
