"""python tests/support/kill_while_making.py KIND FOLDER: FOLDER/0/made is made, FOLDER/1/made ...

Before each is what the kind says, and is made anew by a child. The child of 0 lives, that of N is
ended by SIGKILL just before its N-th call to the disk, as often as there are calls; prints how many
there are. A process of its own, since it forks.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastlm.files import destination, disk

KINDS = ["file", "replaced-file", "folder", "replaced-folder", "inside", "replaced-inside"]
"""inside: a folder that is the current one"""
CALLS = ("open", "mkdir", "unlink", "rmdir", "rename", "replace", "link", "fsync")
OLD, NEW = b"old" * 100, b"new" * 100
ENTRIES = ("a", "b", "mark")


def prepare(kind: str, folder: Path) -> tuple[Any, Any]:
    """Make FOLDER/made as it is before; returns that and what it becomes, as content gives it."""
    made = folder / "made"
    folder.mkdir(parents=True)
    if kind == "replaced-file":
        made.write_bytes(OLD)
    elif kind.startswith("replaced"):
        made.mkdir()
        for name in ("mark", "z"):
            (made / name).write_bytes(OLD)
    elif kind == "inside":
        made.mkdir()
    return content(made), NEW if kind.endswith("file") else dict.fromkeys(ENTRIES, NEW)


def content(path: Path) -> Any:
    """Return the bytes of a file, or the contents of a folder's finished entries."""
    if not path.exists():
        return None
    if path.is_file():
        return path.read_bytes()
    return {p.name: content(p) for p in path.iterdir() if not p.name.startswith(destination.OURS)}


def make(kind: str, folder: Path) -> None:
    """Make FOLDER/made: a file of NEW, or a folder of ENTRIES with NEW in them."""
    path, replace = folder / "made", kind.startswith("replaced")
    if kind.endswith("file"):
        disk.write_file(path, NEW, replace=replace)
        return
    if kind.endswith("inside"):
        os.chdir(path)
    with disk.whole_folder(path, replace=replace, last="mark") as partial:
        for name in ENTRIES:
            disk.write_new(partial / name, NEW)


def counted(original: Callable[..., Any], count: list[int], dies_at: int) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        count[0] += 1
        if count[0] == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    return call


def in_a_child(kind: str, folder: Path, dies_at: int) -> int:
    """Return how many calls to the disk a child made that was not killed; 0 if it was."""
    prepare(kind, folder)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        count = [0]
        for name in CALLS:
            setattr(os, name, counted(getattr(os, name), count, dies_at))
        make(kind, folder)
        os.write(writing, str(count[0]).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    count_text = os.read(reading, 100)
    os.close(reading)
    return int(count_text or b"0")


def main() -> None:
    kind, root = sys.argv[1], Path(sys.argv[2])
    n_calls = in_a_child(kind, root / "0", 0)
    for dies_at in range(1, n_calls + 1):
        assert in_a_child(kind, root / str(dies_at), dies_at) == 0
    print(n_calls)


if __name__ == "__main__":
    main()
