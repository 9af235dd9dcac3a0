"""Makers for the tests of files: one file or one folder, whole or refused."""

import contextlib
import functools
from pathlib import Path
from typing import Any

import pytest
from kill_while_making import NEW

from fastlm.files import disk, resumed

MADE_OF = {"of": "text"}
resumed_file = functools.partial(resumed.resumed_file, made_of=MADE_OF)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make_file(path: Path, **options: Any) -> None:
    with disk.whole_file(path, **options) as file:
        file.write(NEW)


def make_folder(path: Path, **options: Any) -> None:
    with disk.whole_folder(path, **options) as partial:
        disk.write_new(partial / "new", NEW)


MAKERS = pytest.mark.parametrize("maker", [make_file, make_folder])


def never(manager: contextlib.AbstractContextManager[Any]) -> None:
    """Enter a block that has to be refused."""
    with manager:
        pytest.fail("work has begun")
