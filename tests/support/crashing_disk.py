"""A disk that loses power: which files can be there afterwards, by what was flushed and what not.

While a Recording is active it follows a folder. After a crash, of each folder those names are on
the disk that it had when it was flushed last, and the first few of the changes since; of each file,
what it held when it was flushed last, and of what was written since all, the first half, zeros, or
nothing. That is less than POSIX forbids and more than journaling file systems do. In a folder that
is in the making all files have lost the same share: it is removed, and none of them is read. A
folder that a later call continues is read, so that each of its files loses a share of its own.

Locks are left out: nothing depends on what is in one, and tests/files/test_lock.py shows that one
that was left behind is in no one's way.
"""

import copy
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fastlm.files import destination
from fastlm.files.paths import PACKAGE

Tree = dict[str, Any]
"""names to bytes or to trees"""


@dataclass
class File:
    content: bytes = b""
    flushed: bytes = b""

    def after_a_crash(self, alike: bool = False) -> list[bytes]:
        """Return the possible contents after a crash, from the flushed one to the written one."""
        if self.content == self.flushed:
            return [self.content]
        if self.content.startswith(self.flushed):
            head, tail = self.flushed, self.content[len(self.flushed) :]
        else:
            head, tail = b"", self.content
        tails = (b"", tail[: len(tail) // 2], bytes(len(tail)), tail)
        return list(dict.fromkeys([self.flushed, *(head + t for t in tails)]))


@dataclass
class Folder:
    names: "dict[str, File | Folder]" = field(default_factory=dict)
    flushed: "dict[str, File | Folder]" = field(default_factory=dict)
    changes: "list[list[tuple[str, File | Folder | None]]]" = field(default_factory=list)

    def change(self, *names: tuple[str, "File | Folder | None"]) -> None:
        """Names that come and go at once."""
        self.changes.append(list(names))
        _apply(self.names, names)

    def after_a_crash(self, alike: bool = False) -> Iterator[Tree]:
        """Args:
        alike: the files in it have lost the same share of what was not flushed.
        """
        for n in range(len(self.changes) + 1):
            names = dict(self.flushed)
            for change in self.changes[:n]:
                _apply(names, change)
            left = [
                list(node.after_a_crash(alike or is_never_read(name)))
                for name, node in names.items()
            ]
            if alike:
                most = max(map(len, left), default=1)
                every = ([found[min(i, len(found) - 1)] for found in left] for i in range(most))
            else:
                every = map(list, itertools.product(*left))
            for contents in every:
                yield dict(zip(names, contents, strict=True))


def is_never_read(name: str) -> bool:
    """Whether it is a folder or a file in the making that no later call continues."""
    is_continued = name.startswith((destination.UNFINISHED, destination.NOTE))
    return name.startswith(destination.OURS) and not is_continued


def _apply(names: dict[str, Any], change: Any) -> None:
    for name, node in change:
        if node is None:
            names.pop(name)
        else:
            names[name] = node


class Moment(NamedTuple):
    promised: Any
    """the last argument of Recording.promise"""
    folder: Folder


Site = tuple[str, ...]


class Recording:
    """Follows what happens in a folder through os.rename, os.link, os.fsync and its content.

    Args:
        forget: whether to leave out a flush, by the functions of fastlm that asked for it.
    """

    def __init__(self, root: Path, forget: Callable[[Site], bool] = lambda site: False) -> None:
        self.root, self.forget = root, forget
        self.folder = Folder()
        self.promised: Any = None
        self.moments: list[Moment] = []
        self.sites: set[Site] = set()

    def promise(self, what: Any) -> None:
        """Note that this has to survive every crash from now on."""
        self._look()
        self.promised = what
        self._look()

    def __enter__(self) -> "Recording":
        self.patch = pytest.MonkeyPatch()
        for name in ("mkdir", "unlink", "remove", "rmdir", "rename", "replace", "link", "fsync"):
            self.patch.setattr(os, name, self._watched(name, getattr(os, name)))
        return self

    def __exit__(self, *exception: object) -> None:
        self.patch.undo()
        self._look()

    def _watched(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._look()
            if name == "fsync":  # the real disk need not: nothing happens to it
                self._flush(Path(os.readlink(f"/proc/self/fd/{args[0]}")))
                self._look()
                return None
            if name in ("rename", "replace", "link"):
                self._rename(Path(args[0]), Path(args[1]), is_kept=name == "link")
            result = original(*args, **kwargs)
            self._look()
            return result

        return call

    def _node(self, path: Path) -> Any:
        node: Any = self.folder
        for part in path.relative_to(self.root).parts:
            node = node.names[part]
        return node

    def _flush(self, path: Path) -> None:
        site = _callers()[-4:]
        self.sites.add(site)
        if self.forget(site):
            return
        node = self._node(path)
        if isinstance(node, File):
            node.flushed = node.content
        else:
            node.flushed, node.changes = dict(node.names), []

    def _rename(self, source: Path, target: Path, *, is_kept: bool) -> None:
        assert source.parent == target.parent
        folder = self._node(source.parent)
        named = (target.name, folder.names[source.name])
        folder.change(named, *([] if is_kept else [(source.name, None)]))

    def _look(self) -> None:
        """Take in what was made, written and removed, and remember what a crash would leave."""
        _take_in(self.folder, self.root)
        if not self.moments or self.moments[-1] != (self.promised, self.folder):
            self.moments.append(Moment(self.promised, copy.deepcopy(self.folder)))


def _callers() -> Site:
    """The functions of fastlm that are running, with the line, as one function may write several
    files; the innermost last."""
    callers = []
    frame = sys._getframe()
    while frame := frame.f_back:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            callers.append(f"{path.name}:{frame.f_lineno} {frame.f_code.co_name}")
    return tuple(reversed(callers))


def _take_in(folder: Folder, path: Path) -> None:
    entries = sorted(
        entry for entry in path.iterdir() if not entry.name.startswith(destination.LOCK)
    )
    there = {entry.name: entry for entry in entries}
    for name in [name for name in folder.names if name not in there]:
        folder.change((name, None))
    for name, entry in there.items():
        if name not in folder.names:
            folder.change((name, Folder() if entry.is_dir() else File()))
        node = folder.names[name]
        if isinstance(node, Folder):
            _take_in(node, entry)
        else:
            node.content = entry.read_bytes()


def write_tree(tree: Tree, path: Path) -> None:
    path.mkdir()
    for name, content in tree.items():
        if isinstance(content, bytes):
            (path / name).write_bytes(content)
        else:
            write_tree(content, path / name)
