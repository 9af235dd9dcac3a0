"""Which text files a path, a folder or a pattern stands for: one rule for all commands.

A folder stands for the text files in it and in its subfolders, a pattern for those that it matches.
Links are followed, and each file is read once, whatever its names. Hidden names, tokenizers,
prepared data, runs and files of other kinds are passed over, and counted.
"""

import contextlib
import fnmatch
import functools
import glob
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Literal, NamedTuple

from fastlm.files.compression import COMPRESSIONS, compression_of
from fastlm.files.destination import is_leftover
from fastlm.files.json_files import read_object_or_empty
from fastlm.files.not_text import check_no_pointer
from fastlm.files.paths import StrPath, spell

KNOWN_SUFFIXES = (
    *(text + packed for text in (".txt", ".jsonl") for packed in ("", *COMPRESSIONS)),
    ".parquet",
)

Kind = Literal["txt", "jsonl", "parquet"]

# The names of our tokenizers and of those of other libraries.
_TOKENIZER_MARKS = {
    "encoder.json",
    "special_tokens.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
}
_TOKENIZER_NAMES = _TOKENIZER_MARKS | {
    "added_tokens.json",
    "chat_template.jinja",
    "encoding.json",
    "merges.txt",
    "ranks.tiktoken",
    "rules.json",
    "tables.npz",
    "tokenizer.model",
    "vocab.bpe",
    "vocab.txt",
}
_RUN_MARKS = ({"config.json", "log.jsonl"}, {"config.json", "environment.json"})
_DESCRIPTION_BYTES = 1 << 24
"""Size of a JSON file above which it is no description of texts."""
_N_NAMED = 3


class TextFile(NamedTuple):
    """A text file that is read."""

    path: Path
    name: str
    """The path below what all given paths have in common, with slashes"""
    is_given: bool
    """Whether the file itself was given, not a folder or a pattern"""
    n_above: int
    """How many of the first folders in name lie above the given path; all those of a given file"""


class PassedOver:
    """Counts what is passed over, and keeps a few names of each kind."""

    def __init__(self) -> None:  # no dataclass: to import what makes them takes 8 ms
        self.counts: dict[str, int] = {}
        self.names: dict[str, list[str]] = {}

    def add(self, kind: str, name: StrPath) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.names.setdefault(kind, [])
        if len(self.names[kind]) < _N_NAMED:
            self.names[kind].append(str(name))

    def __str__(self) -> str:
        return ", ".join(
            f"{n} {_plural(kind, n)} ({spell_names(self.names[kind], n)})"
            for kind, n in self.counts.items()
        )


_PLURALS = {
    "hidden file or folder": "hidden files and folders",
    "tokenizer": "tokenizers",
    "prepared folder": "prepared folders",
    "folder of a run": "folders of runs",
    "file of another kind": "files of other kinds",
    "link to nothing": "links to nothing",
    "second name of what is read": "second names of what is read",
    "folder": "folders",
    "entry that is no file": "entries that are no files",
}


def _plural(kind: str, n: int) -> str:
    return kind if n == 1 else _PLURALS[kind]


def spell_names(names: Sequence[str], n: int | None = None) -> str:
    """Return the first names of n, and how many more there are."""
    n = len(names) if n is None else n
    shown = ", ".join(map(spell, names[:_N_NAMED]))
    return shown if n <= _N_NAMED else f"{shown} and {n - _N_NAMED} more"


class FoundTexts(NamedTuple):
    """The text files that paths stand for, in the order in which they are read."""

    files: list[TextFile]
    passed_over: PassedOver

    @property
    def paths(self) -> list[Path]:
        return [file.path for file in self.files]

    def notes(self) -> list[str]:
        """Return lines for the user that tell what was passed over; none if nothing was."""
        return [f"note: not read: {self.passed_over}"] if self.passed_over.counts else []


def kind_of(path: StrPath) -> Kind | None:
    """Return the kind of a text file by its suffix in any case, or None if it is none.

    >>> kind_of("a.TXT"), kind_of("a.jsonl.gz"), kind_of("a.jsonl.txt"), kind_of("a.md")
    ('txt', 'jsonl', 'txt', None)
    """
    name = PurePath(path).name.lower()
    packed = compression_of(name)
    if packed is None and name.endswith(".parquet"):
        return "parquet"
    name = name.removesuffix(packed or "")
    if name.endswith(".jsonl"):
        return "jsonl"
    return "txt" if name.endswith(".txt") else None


def is_plain(path: StrPath) -> bool:
    """Return whether a file is read as plain text, that of an unknown suffix too."""
    return kind_of(path) in ("txt", None) and compression_of(path) is None


def is_description(path: Path) -> bool:
    """Return whether a file is a description of texts that fastlm.corpus made.

    Nobody expects it to be read or to be told of.
    """
    if path.name not in ("corpus.json", "sources.json"):
        return False
    try:
        if path.stat().st_size > _DESCRIPTION_BYTES:
            return False
        values = read_object_or_empty(path)
    except OSError:
        return False
    if path.name == "corpus.json":
        return values.get("what") == "stories"
    records = [one for one in values.values() if isinstance(one, dict)]
    return bool(values) and len(records) == len(values) and all("url" in one for one in records)


def find_texts(paths: Iterable[StrPath], *, is_any_suffix: bool = False) -> FoundTexts:
    """Return the text files that files, folders and patterns stand for, each once.

    A pattern contains *, ? or [...] and is no existing path; ** stands for folders at any depth.
    Its first folders are meant by their names as far as they exist.
    The files of a folder and of a pattern are sorted. Of a file with several names (links, hard
    links) one is kept, if possible one that is no link.

    Args:
        is_any_suffix: files that are given themselves, or whose suffix a pattern names, are plain
            text if their suffix is unknown.
    Raises:
        FileNotFoundError: if a path does not exist, or a pattern matches no text file.
        OSError: if a file or a folder cannot be read.
        ValueError: if a file is no text file, a folder has none, a text lies there twice, or there
            are no paths.
    """
    search = _Search(is_any_suffix=is_any_suffix)
    for path in paths:
        search.add(path)
    if not search.roots:
        raise ValueError("expected at least one text file or folder of them, got none")
    return search.found()


def expand_patterns(paths: Iterable[StrPath], *, is_any_suffix: bool = False) -> list[Path]:
    """Return the paths with the files that find_texts finds in place of each pattern, each once.

    Raises:
        FileNotFoundError, OSError, ValueError: as find_texts does for the patterns.
    """
    expanded: list[Path] = []
    for path in paths:
        if is_pattern(path):
            expanded += find_texts([path], is_any_suffix=is_any_suffix).paths
        else:
            expanded.append(Path(path))
    once: dict[Path, Path] = {}
    for path in expanded:
        once.setdefault(path.absolute(), path)
    return list(once.values())


def is_pattern(path: StrPath) -> bool:
    """Return whether a path is a pattern: it has such characters, and nothing has this name."""
    return glob.has_magic(os.fspath(path)) and not os.path.lexists(path)


def _base_and_pattern(path: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the folder to search, and the parts of the pattern after it.

    A folder that exists is meant by its name, also one such as [data].
    """
    parts = path.parts
    n_fixed = 0
    while n_fixed < len(parts) and (
        not glob.has_magic(parts[n_fixed]) or Path(*parts[: n_fixed + 1]).is_dir()
    ):
        n_fixed += 1
    return Path(*parts[:n_fixed]), parts[n_fixed:]


class _Entry(NamedTuple):
    """A file or folder that was met under one of its names."""

    path: Path
    real: str
    is_folder: bool
    states: frozenset[int] = frozenset()
    """Parts of the pattern that may come next, for a folder"""


class _Search:
    """Collects text files; links come last, so that a name that is no link is kept if possible."""

    def __init__(self, *, is_any_suffix: bool) -> None:
        self.roots: list[str] = []
        self._is_any_suffix = is_any_suffix
        self._files: list[tuple[Path, str | None]] = []  # each with the folder it was found in
        self._kept: dict[object, str] = {}  # by real path, and by device and inode
        self._passed_over = PassedOver()
        self._real_folder = functools.cache(os.path.realpath)  # many files share a folder

    def add(self, path: StrPath) -> None:
        given = Path(path)
        known = f"files ending in {', '.join(KNOWN_SUFFIXES)}"
        if is_pattern(given):
            base, pattern = _base_and_pattern(given)
            wanted = "a file" if self._is_any_suffix else known
            if not (base.is_dir() and self._add_folder(base, pattern)):
                raise FileNotFoundError(
                    f"{path}: expected a pattern that matches {wanted}, found none{self._besides()}"
                )
        elif given.is_dir():
            if not self._add_folder(given, ("**",)):
                raise ValueError(
                    f"{path}: expected a folder with {known}, found none{self._besides()}"
                )
        else:
            self._add_file(given)

    def found(self) -> FoundTexts:
        top = ""
        with contextlib.suppress(ValueError):  # folders on several drives have nothing in common
            top = os.path.commonpath(self.roots)
        files = []
        for path, root in self._files:
            name = PurePath(os.path.relpath(path, top or path.parent))
            n_above = len(name.parts) - 1
            if root is not None:
                n_above = len(PurePath(os.path.relpath(root, top or root)).parts)
                n_above -= n_above > 0 and self._are_told_apart
            files.append(TextFile(path, name.as_posix(), root is None, n_above))
        _refuse_packed_twice(files)
        return FoundTexts(files, self._passed_over)

    @property
    def _are_told_apart(self) -> bool:
        """Whether the last names of the given folders tell them apart, as train and val do."""
        return len({os.path.basename(root) for root in self.roots}) > 1

    def _besides(self) -> str:
        return f" besides {self._passed_over}" if self._passed_over.counts else ""

    def _add_file(self, path: Path) -> None:
        if not path.exists():
            kind = "a link to nothing" if path.is_symlink() else "nothing"
            raise FileNotFoundError(
                f"{path}: expected a text file or a folder of them, found {kind}"
            )
        if not self._is_any_suffix and kind_of(path) is None:
            raise ValueError(f"{path}: expected a file ending in {', '.join(KNOWN_SUFFIXES)}")
        if is_leftover(path.name):
            raise ValueError(
                f"{path} belongs to a file that is being made: give that one once it is complete"
            )
        if not path.is_file():
            raise ValueError(f"{path} is no regular file: expected a text file or a folder of them")
        folder = path.parent
        if is_leftover(folder.name):  # standard input is kept there
            folder = folder.parent
        self.roots.append(os.path.abspath(folder))
        real = os.path.join(self._real_folder(path.parent), path.name)
        self._keep(path, os.path.realpath(path) if path.is_symlink() else real, is_given=True)

    def _add_folder(self, base: Path, pattern: Sequence[str]) -> bool:
        """Add the files of a folder that match a pattern; return whether there are any."""
        self.roots.append(os.path.abspath(base))
        kept: list[Path] = []
        is_any = False
        walked: set[object] = set()
        states = _closure({0}, pattern)
        entries = deque([_Entry(base, os.path.realpath(base), True, states)])
        links: deque[_Entry] = deque()
        while entries or links:
            entry = entries.popleft() if entries else links.popleft()
            if not entry.is_folder:
                is_any = True
                kept += [entry.path] if self._keep(entry.path, entry.real) else []
            elif (entry.real, entry.states) in walked:
                self._passed_over.add("second name of what is read", entry.path)
            else:
                walked.add((entry.real, entry.states))
                for found, is_link in self._look_into(entry, pattern):
                    (links if is_link else entries).append(found)
        self._files += ((path, self.roots[-1]) for path in sorted(kept))
        return is_any

    def _keep(self, path: Path, real: str, *, is_given: bool = False) -> bool:
        """Take note of a file; return False if it was met before, under whatever name."""
        if not os.access(path, os.R_OK):
            raise PermissionError(
                f"{path} cannot be read: expected a readable text; change its mode, or leave it out"
            )
        check_no_pointer(path)
        keys: list[object] = [real]
        found = path.stat()
        if found.st_ino:  # a mounted folder gives a second name to a file with one link
            keys.append((found.st_dev, found.st_ino))
        own = os.path.abspath(path)
        earlier = next((self._kept[key] for key in keys if key in self._kept), None)
        if earlier is None:
            self._kept |= dict.fromkeys(keys, own)
            self._files += [(path, None)] if is_given else []
        elif earlier != own:
            self._passed_over.add("second name of what is read", path)
        return earlier is None

    def _look_into(self, folder: _Entry, pattern: Sequence[str]) -> Iterator[tuple[_Entry, bool]]:
        """Yield the folders to search and the text files in a folder, and if they are links."""
        try:
            with os.scandir(folder.path) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as error:
            raise type(error)(
                f"{folder.path} cannot be read ({error.strerror}): expected a folder of texts; "
                "change its mode, or leave it out"
            ) from error
        names = {entry.name for entry in entries}
        if any(marks <= names for marks in _RUN_MARKS):
            self._passed_over.add("folder of a run", folder.path)
            return
        if "meta.json" in names and names & {"train.bin", "train-00000.bin"}:
            self._passed_over.add("prepared folder", folder.path)
            return
        ours = _TOKENIZER_NAMES if names & _TOKENIZER_MARKS else frozenset()
        is_told = False
        for entry in entries:
            name, path = entry.name, folder.path / entry.name
            if is_leftover(name) or is_description(path):
                continue
            states, is_match = _advance(folder.states, name, pattern)
            shown, is_shown = _advance(folder.states, name, pattern, is_hidden_matched=False)
            is_folder, is_file = _is_folder_or_file(entry)
            if name.startswith(".") and not (shown if is_folder else is_shown):
                if states if is_folder else is_match:
                    self._passed_over.add("hidden file or folder", path)
            elif is_folder and shown:
                yield _Entry(path, _real(entry, folder, path), True, shown), entry.is_symlink()
            elif not is_shown:
                continue
            elif is_folder:
                self._passed_over.add("folder", path)
            elif name in ours:
                if not is_told:
                    self._passed_over.add("tokenizer", folder.path)
                is_told = True
            elif not is_file and entry.is_symlink():
                self._passed_over.add("link to nothing", path)
            elif not is_file:
                self._passed_over.add("entry that is no file", path)
            elif kind_of(name) is None and not self._is_named(name, pattern[-1]):
                self._passed_over.add("file of another kind", path)
            else:
                yield _Entry(path, _real(entry, folder, path), False), entry.is_symlink()

    def _is_named(self, name: str, pattern: str) -> bool:
        """Return whether a pattern names the unknown suffix of a file, as *.md does."""
        asked, found = PurePath(pattern).suffix, PurePath(name).suffix
        is_said = pattern.strip("*?") and (asked.strip(".*?") or not found)
        return self._is_any_suffix and bool(is_said) and fnmatch.fnmatchcase(found, asked)


def _real(entry: "os.DirEntry[str]", folder: _Entry, path: Path) -> str:
    return os.path.realpath(path) if entry.is_symlink() else os.path.join(folder.real, entry.name)


def _is_folder_or_file(entry: "os.DirEntry[str]") -> tuple[bool, bool]:
    try:
        return entry.is_dir(), entry.is_file()
    except OSError:  # a loop of links
        return False, False


def _closure(states: Iterable[int], pattern: Sequence[str]) -> frozenset[int]:
    """Add the parts that may come next because a ** before them may stand for no folder."""
    reached = set(states)
    for i in range(len(pattern) - 1):
        if i in reached and pattern[i] == "**":
            reached.add(i + 1)
    return frozenset(reached)


def _advance(
    states: Iterable[int], name: str, pattern: Sequence[str], *, is_hidden_matched: bool = True
) -> tuple[frozenset[int], bool]:
    """Return the parts that may come after a name, and whether the pattern may end with it."""
    after: set[int] = set()
    is_end = False
    for i in states:
        part, is_last = pattern[i], i == len(pattern) - 1
        if name.startswith(".") and not part.startswith(".") and not is_hidden_matched:
            continue
        if part == "**":
            after.add(i)
            is_end |= is_last
        elif fnmatch.fnmatchcase(name, part):
            if is_last:
                is_end = True
            else:
                after.add(i + 1)
    return _closure(after, pattern), is_end


def _refuse_packed_twice(files: Iterable[TextFile]) -> None:
    """Refuse a.txt beside a.txt.gz where neither was given by name: it is most likely one text."""
    seen: dict[str, Path] = {}
    for path, _, is_given, _ in files:
        packed = compression_of(path)
        unpacked = str(path)[: -len(packed)] if packed else str(path)
        other = seen.setdefault(unpacked, path)
        if other != path and not is_given:
            raise ValueError(
                f"{path} seems to be the text of {other} once more: expected one of them; remove "
                "the other, or give the files themselves"
            )
