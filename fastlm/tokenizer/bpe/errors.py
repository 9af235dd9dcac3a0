"""Errors of texts that cannot be encoded. Both name the position of the byte."""


class InvalidUtf8(ValueError):
    """No valid UTF-8 character begins at byte `position` of `source`."""

    def __init__(self, position: int, source: str = "text") -> None:
        super().__init__(
            f"{source} must be UTF-8: no valid character begins at byte {position}; "
            "errors=replace puts U+FFFD there"
        )
        self.position = position


class UnknownByte(ValueError):
    """The vocabulary has no token for the byte at `position`."""

    def __init__(self, byte: int, position: int) -> None:
        super().__init__(
            f"the vocabulary must cover every byte of the text: no token is byte 0x{byte:02x}, "
            f"found at byte {position}; add the 256 single bytes to the vocabulary"
        )
