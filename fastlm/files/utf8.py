"""Text as UTF-8, and how invalid bytes are handled."""


def check_errors(errors: str) -> None:
    """Raise ValueError unless errors is "strict" or "replace"."""
    if errors not in ("strict", "replace"):
        raise ValueError(f'errors must be "strict" or "replace": got {errors!r}')


def to_utf8(text: str, name: str = "text") -> bytes:
    """Encode text; raise ValueError, naming the character, if it holds lone surrogates."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} must be Unicode characters: character {error.start} is the lone surrogate "
            f"{text[error.start]!r}; read the text as UTF-8, or replace it"
        ) from None
