# mypy: allow-untyped-calls, disable-error-code=assignment
"""The walk through a text that counting and encoding share: one window of pre-tokens at a time."""

from fastlm.tokenizer.bpe import fields as f
from fastlm.tokenizer.bpe import status_codes as codes
from fastlm.tokenizer.bpe.compiler import shared
from fastlm.tokenizer.bpe.context import Context, i64, pi64
from fastlm.tokenizer.bpe.patterns import GPT2, Pattern
from fastlm.tokenizer.bpe.pretokenize import add_window, long_token_end, scan_window
from fastlm.tokenizer.bpe.segments import next_segment
from fastlm.tokenizer.bpe.words import add_keys, hash_window


def add_walk(context: Context, pattern: Pattern = GPT2) -> None:
    """Give a context the buffers of next_window, and the one that finds a pattern's tokens."""
    add_window(context)
    add_keys(context)
    if pattern == GPT2:
        context.link(next_window)
    else:
        from fastlm.tokenizer.bpe.token_ends import add_scanner
        from fastlm.tokenizer.bpe.token_walk import next_tokens

        context.link(next_tokens)
        add_scanner(context, pattern)


@shared(f.NEXT_WINDOW)
def next_window(c: pi64, data: i64) -> i64:
    """Find the pre-tokens from POSITION on, by scan_window, and their keys.

    Returns:
        the number of tokens in the window, or one of
        AT_LONG_TOKEN: the next token does not fit a window; it ends at TOKEN_END;
        AT_BORDER: a special token or the end of a document was passed (PASSED, HAS_ENDED);
        AT_END: there is no more text;
        INVALID_TEXT: the character at POSITION is not UTF-8.
    """
    if c[f.POSITION] == c[f.SEGMENT_END]:
        if c[f.DOCUMENT] == c[f.N_DOCUMENTS]:
            return codes.AT_END
        c[f.PASSED], c[f.HAS_ENDED] = next_segment(c, data)
        return codes.AT_BORDER
    n_tokens, invalid = scan_window(c, data, c[f.POSITION], c[f.SEGMENT_END])
    if invalid >= 0:
        c[f.POSITION] = invalid
        return codes.INVALID_TEXT
    if n_tokens > 0:
        hash_window(c, n_tokens)
        return n_tokens
    end, is_valid = long_token_end(c, data, c[f.POSITION], c[f.SEGMENT_END])
    if not is_valid:
        c[f.POSITION] = end
        return codes.INVALID_TEXT
    c[f.TOKEN_END] = end
    return codes.AT_LONG_TOKEN
