"""What can be wrong with a text. Both errors say where."""


class InvalidUtf8(ValueError):
    """No valid character begins at byte `position` of `source`."""

    def __init__(self, position: int, source: str = "text") -> None:
        super().__init__(
            f"{source} must be UTF-8: no valid character begins at byte {position}; "
            "errors=replace puts U+FFFD there"
        )
        self.position = position


class UnknownByte(ValueError):
    """No token spells the byte at `position`."""

    def __init__(self, byte: int, position: int) -> None:
        super().__init__(
            f"the vocabulary must spell all of the text: no token is byte 0x{byte:02x}, "
            f"found at byte {position}; put the 256 single bytes into the vocabulary"
        )
