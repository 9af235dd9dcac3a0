"""Checks of all paths that a command will write, before it works."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from fastlm.files import disk
from fastlm.files.destination import STANDARD_OUTPUT
from fastlm.files.paths import StrPath


def check_not_read(outputs: Iterable[StrPath], inputs: Iterable[StrPath]) -> None:
    """Refuse an output that is one of the inputs by whatever name, holds one, or lies in one.

    An output in an input folder is refused only if it exists.

    Raises:
        ValueError: with the name of the output.
    """
    read = [Path(os.path.realpath(path)) for path in inputs]
    for out in outputs:
        found = Path(os.path.realpath(out))
        if not found.exists():
            continue
        for path in read:
            is_same = path.exists() and found.samefile(path)
            if is_same or path in found.parents:
                raise ValueError(f"{out} is read and would be written: give another file to write")
            if found in path.parents:
                raise ValueError(f"{out} holds {path}, which is read: give another to write")


def check_new_files(
    outputs: Mapping[str, StrPath],
    inputs: Iterable[StrPath] = (),
    *,
    replace: bool = False,
    to_stream: bool = False,
) -> None:
    """Check the files that a command will write.

    Args:
        outputs: the files by the flags that give them.
        inputs: all files and folders that the command reads.
        replace: --overwrite was given.
        to_stream: whether streams are written to.
    Raises:
        ValueError, OSError: if a file is also read, if two are the same, or as
            disk.check_new_file; the message has the flags.
    """
    for out in outputs.values():
        disk.check_new_file(out, replace=True, to_stream=to_stream)
    check_not_read((out for out in outputs.values() if not is_stream(out)), inputs)
    flags_of: dict[str, str] = {}
    for flag, out in outputs.items():
        other = flags_of.setdefault(os.path.realpath(out), flag)
        if other != flag and str(out) != os.devnull:
            raise ValueError(f"{other} and {flag} must be two files: got {out} for both")
        try:
            disk.check_new_file(out, replace=replace, to_stream=to_stream)
        except FileExistsError:
            raise is_there(out, flag) from None


def is_there(path: StrPath, flag: str = "--out") -> FileExistsError:
    """Return the error for an output of a command that has --overwrite."""
    return FileExistsError(
        f"{path} is there already: give another {flag}, or --overwrite to replace it"
    )


def is_stream(path: StrPath) -> bool:
    """Return whether an output is standard output, a pipe or a device."""
    path = Path(path)
    return path == STANDARD_OUTPUT or (path.exists() and not (path.is_file() or path.is_dir()))


def is_standard_output(path: StrPath) -> bool:
    """Return whether what is written to a path mixes with what is printed."""
    try:
        return Path(path) == STANDARD_OUTPUT or os.path.samestat(os.stat(path), os.fstat(1))
    except OSError:
        return False
