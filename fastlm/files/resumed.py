"""Files and folders that are written over several calls, each with a note on its progress."""

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from fastlm.files.destination import (
    NOTE,
    PARTIAL,
    UNFINISHED,
    Destination,
    Seen,
    find,
    find_file,
    inside,
    look_at_file,
)
from fastlm.files.disk import (
    WAIT_SECONDS,
    check_new_file,
    name_file,
    name_folder,
    part_from_copies,
    prepare_folder,
    refuse_file,
    restore_name,
    whole_file,
)
from fastlm.files.folders import remove
from fastlm.files.json_files import read_object_or_empty, to_json
from fastlm.files.lock import holding
from fastlm.files.paths import StrPath
from fastlm.files.sync import flush, flush_tree, sync_folder


class ResumedFile:
    """An incomplete file that a later process can continue: PATH.part and PATH.part.json.

    Attributes:
        file: the part, open for reading and writing at its start.
    """

    def __init__(
        self,
        file: BinaryIO,
        target: Destination,
        seen: Seen,
        *,
        made_of: Mapping[str, Any],
        replace: bool,
    ) -> None:
        self.file = file
        self.part = _beside(target.path, ".part")
        self.note_path = _beside(target.path, ".part.json")
        self._made_of = dict(made_of)
        self._target, self._seen, self._replace = target, seen, replace

    @property
    def n_bytes(self) -> int:
        self.file.flush()
        return os.fstat(self.file.fileno()).st_size

    def read_note(self) -> dict[str, Any]:
        """Return made_of, with the values that the last process gave to write_note."""
        return read_object_or_empty(self.note_path)

    def write_note(self, values: dict[str, Any]) -> None:
        """Write a note on the part; the part is flushed before the note."""
        flush(self.file)
        _write_note(self.note_path, {**self._made_of, **values})

    def clear(self) -> None:
        """Reduce the note to made_of, then empty the part."""
        _write_note(self.note_path, self._made_of)
        self.file.seek(0)
        self.file.truncate()

    def give_name(self) -> None:
        """Flush, close and rename the file.

        The note is removed when the block succeeds: after an error or a kill in the rest of the
        block, finish_named can do that rest.

        Raises:
            FileExistsError: if the path exists by now and replace was not given.
        """
        flush(self.file)
        self.file.close()  # Windows cannot rename an open file
        name_file(self.part, self._target, self._seen, replace=self._replace)
        sync_folder(self._target.folder)


@contextlib.contextmanager
def resumed_file(
    path: StrPath, *, made_of: Mapping[str, Any], replace: bool = False
) -> Iterator[ResumedFile]:
    """Begin or continue a file that is written over several calls.

    Until give_name is called, the bytes written stay in PATH.part however the block ends. The
    path is locked during the block.

    Args:
        made_of: values that are in every note. A part whose note lacks one of their names was not
            made by an earlier call, and stays as it is.
    Raises:
        FileExistsError, BlockingIOError, OSError: as in whole_file; also for such a part.
    """
    target = _find(path)
    with holding(target):
        seen = look_at_file(target, replace=replace)
        part, note = _beside(target.path, ".part"), _beside(target.path, ".part.json")
        _refuse_part_of_others(target, made_of)
        _remove_partial_note(note)
        if not os.path.lexists(part):
            _begin(part, note, made_of)
        elif not part.is_symlink():
            part_from_copies(part)
        try:
            with open(part, "r+b", opener=_without_links) as file:
                yield ResumedFile(file, target, seen, made_of=made_of, replace=replace)
        except BaseException:
            if part.exists():  # otherwise finish_named still needs the note
                _clear_if_empty(part, note)
            raise
        if part.exists():
            _clear_if_empty(part, note)
        else:
            note.unlink(missing_ok=True)


def _begin(part: Path, note: Path, made_of: Mapping[str, Any]) -> None:
    """Make an empty part, after the note that identifies it as ours."""
    _write_note(note, dict(made_of))
    try:
        open(part, "xb").close()
    except BaseException:
        note.unlink(missing_ok=True)
        raise


def check_resumed_file(path: StrPath, *, made_of: Collection[str], replace: bool = False) -> None:
    """Raise the errors that resumed_file raises before its block: call this before slow work.

    Args:
        made_of: names of the values that are in every note.
    """
    check_new_file(path, replace=replace)
    _refuse_part_of_others(_find(path), made_of)


def _refuse_part_of_others(target: Destination, made_of: Collection[str]) -> None:
    part, note = _beside(target.path, ".part"), _beside(target.path, ".part.json")
    found = [path for path in (part, note) if os.path.lexists(path)]
    are_ours = _has_names(note, made_of) and all(stat.S_ISREG(p.lstat().st_mode) for p in found)
    if found and not are_ours:
        raise FileExistsError(
            f"{found[0]} is there and is not the unfinished part of {target.given}: move it away, "
            "or give another --out"
        )


def _has_names(note: Path, names: Collection[str]) -> bool:
    return note.is_file() and set(names) <= read_object_or_empty(note).keys()


def _clear_if_empty(part: Path, note: Path) -> None:
    if part.stat().st_size == 0:  # there is nothing to continue
        note.unlink(missing_ok=True)
        part.unlink()


class ResumedFolder:
    """An incomplete folder that a later process can continue, with a note on its progress.

    Attributes:
        folder: path of the folder, with the content of earlier processes.
    """

    def __init__(self, folder: Path, note_path: Path) -> None:
        self.folder, self.note_path = folder, note_path

    def read_note(self) -> dict[str, Any]:
        """Return the values last given to write_note; empty if no note can be read."""
        return read_object_or_empty(self.note_path)

    def write_note(self, values: dict[str, Any]) -> None:
        """Write a note on the progress; the caller has flushed the files it describes."""
        _write_note(self.note_path, values)

    def clear(self) -> None:
        """Remove the note, then the content of the folder."""
        self.note_path.unlink(missing_ok=True)
        for path in self.folder.iterdir():
            remove(path)


@contextlib.contextmanager
def resumed_folder(
    path: StrPath, *, replace: bool = False, last: str = "", is_locked: bool = False
) -> Iterator[ResumedFolder]:
    """Make a folder like whole_folder, but keep it for the next call if it has a note.

    Args:
        is_locked: the caller holds locked(path).
    Raises:
        FileExistsError, BlockingIOError, OSError: as in whole_folder.
    """
    target = find(Path(path))
    refuse_file(target)
    with holding(target, is_locked=is_locked):
        seen = prepare_folder(target, replace=replace)
        folder, note_path = target.beside(UNFINISHED), target.beside(NOTE)
        _remove_partial_note(note_path)
        try:
            folder.mkdir(exist_ok=True)
            yield ResumedFolder(folder, note_path)
            flush_tree(folder)
            name_folder(folder, target, seen, replace=replace, last=last)
        except BaseException:
            if not note_path.exists():  # there is nothing to continue
                shutil.rmtree(folder, ignore_errors=True)
            restore_name(target)
            raise
        note_path.unlink(missing_ok=True)


def _write_note(path: Path, values: dict[str, Any]) -> None:
    """Write a note under its own lock, as sweep() expects, whatever other lock the caller holds."""
    raw = to_json(values, indent=0)
    with whole_file(path, replace=True, wait_seconds=WAIT_SECONDS) as file:
        file.write(raw)


def _remove_partial_note(path: Path) -> None:
    """Remove the temporary file of a process that was killed while it wrote the note."""
    target = inside(path.parent, path.name)
    with holding(target, wait_seconds=WAIT_SECONDS):
        remove(target.beside(PARTIAL))


def was_named(path: StrPath, names: Collection[str]) -> bool:
    """Return whether a process stopped between give_name and the end of the block.

    Args:
        names: names of values that are in the note by the time of give_name.
    """
    found = find(Path(path)).path
    part = _beside(found, ".part")
    # A process that was killed while it gave the name may have left the file with both names.
    if os.path.lexists(part) and not (found.is_file() and part.samefile(found)):
        return False
    return _has_names(_beside(found, ".part.json"), names)


def finish_named(
    path: StrPath, names: Collection[str], finish: Callable[[dict[str, Any]], object]
) -> None:
    """Do the work that an earlier process left undone after it had given a path its name.

    Args:
        names: as for was_named.
        finish: called with the last note of that process, if was_named(path, names); the note is
            removed when it succeeds.
    Raises:
        BlockingIOError: if another process makes the path.
    """
    if not was_named(path, names):
        return
    target = _find(path)
    with holding(target):
        if was_named(path, names):  # again, now that it is locked
            note = _beside(target.path, ".part.json")
            _beside(target.path, ".part").unlink(missing_ok=True)
            finish(read_object_or_empty(note))
            note.unlink()


def _find(path: StrPath) -> Destination:
    target = find_file(Path(path), to_stream=False)
    assert target is not None
    return target


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
