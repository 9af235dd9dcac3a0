"""Tables that commands write into a README, between two comments with the table's name."""

import re
from pathlib import Path


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}: begin -->\n)(.*?)(<!-- {name}: end -->)", re.DOTALL)


def read_table(path: Path, name: str) -> str:
    """The text between `<!-- name: begin -->` and `<!-- name: end -->`.

    Raises:
        ValueError: if the file has no such comments.
    """
    found = _pattern(name).search(path.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{path} has no place for the table: <!-- {name}: begin --> ... end -->")
    return found[2].strip()


def replace_table(path: Path, name: str, table: str) -> None:
    """Write a table between the comments with its name, in place of the one there."""
    read_table(path, name)
    text = path.read_text(encoding="utf-8")
    text = _pattern(name).sub(lambda m: f"{m[1]}{table}\n{m[3]}", text)
    path.write_text(text, encoding="utf-8")
