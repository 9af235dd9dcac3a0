"""Flags whose value is a list with commas."""


def comma_separated(flag: str, text: str, expected: str) -> list[str]:
    """The parts of a flag's value, without the blanks around them: "a, b" -> ["a", "b"].

    Args:
        flag: its name, and expected: what its value is, both for the message.
    Raises:
        ValueError: if a part is empty.
    """
    parts = [part.strip() for part in text.split(",")]
    if "" in parts:
        raise ValueError(f"{flag} takes {expected}, with a comma between two: got {text!r}")
    return parts
