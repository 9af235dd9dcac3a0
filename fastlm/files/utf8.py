"""Text as UTF-8, and how invalid bytes are handled."""

from fastlm.files.paths import StrPath

_HEAD_BYTES = 64


def check_errors(errors: str) -> None:
    """Raise ValueError unless errors is "strict" or "replace"."""
    if errors not in ("strict", "replace"):
        raise ValueError(f'errors must be "strict" or "replace": got {errors!r}')


def refuse_utf16(path: StrPath, head: bytes) -> None:
    """Raise a ValueError if a text is UTF-16, as its first bytes show: each letter has a zero byte.

    Without its mark, it could be read as UTF-8; with it, as U+FFFD and letters.
    """
    even, odd = head[:_HEAD_BYTES:2], head[1:_HEAD_BYTES:2]
    is_without_mark = len(odd) >= _HEAD_BYTES // 2 and (
        (all(even) and not any(odd)) or (all(odd) and not any(even))
    )
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or is_without_mark:
        raise ValueError(
            f"{path}: expected UTF-8, got UTF-16: convert it, such as with iconv -f UTF-16 -t UTF-8"
        )


def to_utf8(text: str) -> bytes:
    """Encode text; raise ValueError, naming the character, if it holds lone surrogates."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text must be Unicode characters: character {error.start} is the lone surrogate "
            f"{text[error.start]!r}; read the text as UTF-8, or replace it"
        ) from None


def refuse_surrogates(text: str) -> None:
    """Raise the error that to_utf8 would raise."""
    if not text.isascii():
        to_utf8(text)
