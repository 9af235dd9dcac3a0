# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=assignment
"""next_window for the patterns whose tokens token_ends.py finds one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlm.tokenizer.bpe import fields as f
from fastlm.tokenizer.bpe import status_codes as codes
from fastlm.tokenizer.bpe.ascii_tokens import ascii_bytes, find_ascii_tokens, wide_bytes
from fastlm.tokenizer.bpe.buffers import Buffer
from fastlm.tokenizer.bpe.compiler import kernel, shared
from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.context import Context, i64, int32_at, int64_at, pi64, u64, uint8_at
from fastlm.tokenizer.bpe.errors import InvalidUtf8
from fastlm.tokenizer.bpe.objects import address_of
from fastlm.tokenizer.bpe.patterns import Pattern
from fastlm.tokenizer.bpe.pretokenize import WINDOW_BYTES, add_window
from fastlm.tokenizer.bpe.segments import next_segment
from fastlm.tokenizer.bpe.token_ends import add_scanner, note_letters, plain_end, token_end
from fastlm.tokenizer.bpe.words import add_keys, hash_window

if TYPE_CHECKING:
    from jaxtyping import Int64

_LEAST_ASCII = 128  # bytes of ASCII text that are worth to be looked at by themselves
_LOOKAHEAD = 16  # bytes after a window that loads of keys read


@shared(f.NEXT_WINDOW)
def next_tokens(c: pi64, data: i64) -> i64:
    """Find the pre-tokens from POSITION on, and their keys, like walk.next_window."""
    begin, end = c[f.POSITION], c[f.SEGMENT_END]
    if begin == end:
        if c[f.DOCUMENT] == c[f.N_DOCUMENTS]:
            return codes.AT_END
        c[f.PASSED], c[f.HAS_ENDED] = next_segment(c, data)
        return codes.AT_BORDER
    source, text, starts = uint8_at(data), uint8_at(c[f.TEXT]), int32_at(c[f.STARTS])
    n_bytes = min(end - begin, WINDOW_BYTES)
    n_ascii = ascii_bytes(data, begin, n_bytes)
    is_ascii = n_ascii >= _LEAST_ASCII
    n_bytes = n_ascii if is_ascii else wide_bytes(data, begin, n_bytes, _LEAST_ASCII)
    visible = min(end - begin, n_bytes + _LOOKAHEAD)
    for i in range(visible):
        text[i] = source[begin + i]
    for i in range(visible, n_bytes + _LOOKAHEAD):
        text[i] = 0
    if is_ascii:
        n_tokens = find_ascii_tokens(c, text, n_ascii)
        if n_tokens > 0:
            hash_window(c, n_tokens)
            return n_tokens
    note_letters(c, text, begin, n_bytes)
    starts[0] = 0
    n_tokens = np.int64(0)
    place = begin
    while place < begin + n_bytes:
        after = begin + plain_end(c, text, place - begin, n_bytes)
        if after == begin:
            after = token_end(c, source, place, end)
        if after < 0:
            if n_tokens == 0:
                return codes.INVALID_TEXT
            break
        if after > begin + n_bytes:
            if n_tokens == 0:
                c[f.TOKEN_END] = after
                return codes.AT_LONG_TOKEN
            break
        n_tokens += 1
        starts[n_tokens] = after - begin
        place = after
    hash_window(c, n_tokens)
    return n_tokens


@kernel
def _token_bounds(address, data, n_bytes, bounds_address):
    c, bounds = int64_at(address), int64_at(bounds_address)
    starts = int32_at(c[f.STARTS])
    c[f.POSITION], c[f.SEGMENT_END] = 0, n_bytes
    n_bounds = 1
    while c[f.POSITION] < n_bytes:
        n_tokens = next_tokens(c, data)
        if n_tokens == codes.INVALID_TEXT:
            return -1 - c[f.POSITION]
        if n_tokens == codes.AT_LONG_TOKEN:
            bounds[n_bounds] = c[f.TOKEN_END]
            n_bounds += 1
            c[f.POSITION] = c[f.TOKEN_END]
            continue
        for token in range(1, n_tokens + 1):
            bounds[n_bounds] = c[f.POSITION] + starts[token]
            n_bounds += 1
        c[f.POSITION] += starts[n_tokens]
    return n_bounds


def scan_context(pattern: Pattern) -> Context:
    """Make a context to find the pre-tokens of texts in."""
    context = Context(f.N_FIELDS)
    add_window(context)
    add_keys(context)
    context.hold(f.TABLE, Buffer(8, u64))
    context.link(next_tokens)
    add_scanner(context, pattern)
    return context


def token_bounds(
    data: bytes, pattern: Pattern, context: Context | None = None
) -> Int64[np.ndarray, " n_tokens_plus_1"]:
    """Like pretokenize.token_bounds, for a pattern that add_scanner knows.

    Args:
        context: one of scan_context for the pattern; None makes one.
    """
    context = scan_context(pattern) if context is None else context
    bounds = np.zeros(len(data) + 1, np.int64)
    n_bounds = _token_bounds(context.address, address_of(data), len(data), bounds.ctypes.data)
    if n_bounds < 0:
        raise InvalidUtf8(-1 - n_bounds)
    return bounds[:n_bounds]
