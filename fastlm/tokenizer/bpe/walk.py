# mypy: allow-untyped-calls, disable-error-code=assignment
"""The way through a text that counting and encoding share: window by window, token by token."""

from fastlm.tokenizer.bpe.memory import (
    AT_BORDER,
    AT_END,
    AT_LONG_TOKEN,
    DOCUMENT,
    HAS_ENDED,
    INVALID_TEXT,
    N_DOCUMENTS,
    NEXT_WINDOW,
    PASSED,
    POSITION,
    SEGMENT_END,
    TOKEN_END,
    Context,
    i64,
    pi64,
    shared,
)
from fastlm.tokenizer.bpe.pretokenize import add_window, long_token_end, scan_window
from fastlm.tokenizer.bpe.segments import next_segment
from fastlm.tokenizer.bpe.words import add_keys, hash_window


def add_walk(context: Context) -> None:
    """Give a context what next_window works with, beside texts, special tokens and a table."""
    add_window(context)
    add_keys(context)
    context.link(next_window)


@shared(NEXT_WINDOW)
def next_window(c: pi64, data: i64) -> i64:
    """Find the pre-tokens from POSITION on, as scan_window does, and their keys.

    Returns:
        the number of tokens in the window, or one of
        AT_LONG_TOKEN: the next token does not fit a window; it ends at TOKEN_END;
        AT_BORDER: a special token or a document's end was passed (PASSED, HAS_ENDED);
        AT_END: there is no more text;
        INVALID_TEXT: what stands at POSITION is not UTF-8.
    """
    if c[POSITION] == c[SEGMENT_END]:
        if c[DOCUMENT] == c[N_DOCUMENTS]:
            return AT_END
        c[PASSED], c[HAS_ENDED] = next_segment(c, data)
        return AT_BORDER
    n_tokens, invalid = scan_window(c, data, c[POSITION], c[SEGMENT_END])
    if invalid >= 0:
        c[POSITION] = invalid
        return INVALID_TEXT
    if n_tokens > 0:
        hash_window(c, n_tokens)
        return n_tokens
    end, is_valid = long_token_end(c, data, c[POSITION], c[SEGMENT_END])
    if not is_valid:
        c[POSITION] = end
        return INVALID_TEXT
    c[TOKEN_END] = end
    return AT_LONG_TOKEN
