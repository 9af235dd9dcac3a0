"""Text as UTF-8, and how invalid bytes are handled."""


def check_errors(errors: str) -> None:
    """Raise ValueError for another word than strict and replace."""
    if errors not in ("strict", "replace"):
        raise ValueError(f'errors must be "strict" or "replace": got {errors!r}')


def to_utf8(text: str) -> bytes:
    """Raises ValueError, naming the character, if the text holds lone surrogates."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text must be Unicode characters: character {error.start} is the lone surrogate "
            f"{text[error.start]!r}; read the text as UTF-8, or replace it"
        ) from None


def refuse_surrogates(text: str) -> None:
    """As to_utf8, for the error alone."""
    if not text.isascii():
        to_utf8(text)
