"""The record of a run: configuration, environment, log rows and a summary.

All files are text; fastlm.runs.run_files has their names.
"""

import contextlib
import dataclasses
import errno
import itertools
import json
import math
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastlm.config import TrainConfig
from fastlm.config.dicts import from_dict, to_json
from fastlm.files import disk, folders, json_files, sync
from fastlm.files.destination import OTHERS
from fastlm.runs.found import number, read_log, try_read_object
from fastlm.runs.given import check_new_run
from fastlm.runs.links import links_into_others, note_owner
from fastlm.runs.run_files import RunFiles
from fastlm.runs.state import state_of


class RunRecord:
    """The folder of one run.

    Args:
        is_written: whether this process writes the record; exactly one of several does.
    """

    def __init__(self, folder: Path, *, is_written: bool = True) -> None:
        self.folder = folder
        self.is_written = is_written
        self.files = RunFiles(folder)
        self.checkpoints = self.files.checkpoints
        self.tokenizer = self.files.tokenizer
        self._forward: Callable[[dict[str, Any]], None] | None = None
        self._environment = b""
        """Content of environment.json, to write it again."""
        self._config = b""
        """Content of config.json, by which a copy of the folder is known too."""
        self._known: folders.KnownFolder | None = None
        """The folder since the run began; None if this process only reads it."""
        self._known_checkpoints: folders.KnownFolder | None = None
        self._held = contextlib.ExitStack()
        """Lock of another folder than the first."""
        self._unwritten = b""
        self._log_is: tuple[int, ...] = ()
        """Device, inode and size of the log as this process left it; empty if there is none."""
        self._first_row = b""
        """First line of the log, by which it is told from that of another run."""
        self.last_validation: dict[str, Any] = {}
        """Row of the last validation before the run was resumed; empty if there is none."""
        self._untold: list[str] = []
        self._writing = threading.Lock()
        """Lock of the files, which the thread that writes checkpoints writes too."""

    @property
    def exists(self) -> bool:
        return self.files.config.is_file()

    def start(self, config: TrainConfig, environment: dict[str, Any]) -> None:
        """Make the folder and write the configuration and the environment."""
        if not self.is_written:
            return
        self._check_files()
        folders.make_folder(self.folder)
        disk.sweep(self.folder)
        self._forget_end()
        # A run that was stopped before its first checkpoint may have left rows.
        disk.write_file(self.files.log, b"", replace=True)
        self._know()
        note_owner(self.folder)
        self._environment = json_files.to_json(environment)
        disk.write_file(self.files.environment, self._environment, replace=True)
        self.write_config(config)  # last, as it makes the folder a run and flushes all names

    def _know(self) -> None:
        """Know the folder from now on by what it is, as its name may come to be another's."""
        if self._known is not None:
            self._known.close()
        self._known = folders.KnownFolder(self.folder)
        self._know_log()

    def _know_log(self) -> None:
        self._log_is, self._first_row = _identity(self.files.log), _first_line(self.files.log)

    def close(self) -> None:
        """Free the folder: this process writes no more to it."""
        self._held.close()
        for known in (self._known, self._known_checkpoints):
            if known is not None:
                known.close()

    def renew(self, config: TrainConfig, fill: Callable[[], None] | None = None) -> None:
        """Make the folder a whole run again if it was moved, removed or replaced since.

        What somebody put in its place is neither changed nor added to: the run goes on in a folder
        beside it. What was put in the place of the configuration or of the folder of checkpoints
        alone is renamed, and so is a link into another run. news() tells all of it.

        Args:
            fill: writes the files that others than the record write, such as the tokenizer.
        Raises:
            OSError: if writing fails; the next call goes on.
        """
        if not self.is_written or self._known is None:
            return
        with self._writing:
            is_told = not self._is_here()
            if is_told:
                self._take_place()
            for path, _ in links_into_others(self.folder):
                self._set_aside(path)
            self._check_checkpoints()
            if os.path.lexists(self.files.config) and not self._has_config():
                self._set_aside(self.files.config)
                is_told = True
            missing = [] if self.exists else [self.files.config]
            if fill is not None and not self.tokenizer.is_dir():
                missing.append(self.tokenizer)
            if missing and not is_told:
                names = " and ".join(map(str, missing))
                self._untold.append(
                    f"warning: {names} was removed while the run goes on: it is written again"
                )
            if missing and fill is not None:
                fill()
            if self.exists:
                return
            if self._environment:
                disk.write_file(self.files.environment, self._environment, replace=True)
            self.write_config(config)  # last, as it makes the folder a run

    def _is_here(self) -> bool:
        """Return whether the folder is the run's: the same one, or a copy, by its first row."""
        assert self._known is not None
        if self._known.is_at(self.folder):
            return True
        if not self.exists or self.files.config.read_bytes() != self._config:
            return False
        return self._first_row != b"" and _first_line(self.files.log) == self._first_row

    def _check_checkpoints(self) -> None:
        """Know the folder of the checkpoints; another one in its place is renamed."""
        known, is_told = self._known_checkpoints, os.path.lexists(self.checkpoints)
        if known is not None and known.is_at(self.checkpoints):
            return
        if is_told and (known is not None or not self.checkpoints.is_dir()):
            self._set_aside(self.checkpoints)
        if known is not None:
            known.close()
        folders.make_folder(self.checkpoints)
        self._known_checkpoints = folders.KnownFolder(self.checkpoints)

    def _take_place(self) -> None:
        """Make the folder anew, or one beside it if it is somebody's."""
        lost = "was moved or removed while the run goes on"
        was = self.folder
        try:
            check_new_run(self.folder, is_over=True)
            self._check_files()
            folders.make_folder(self.folder)
        except OSError:
            above = next(place for place in self.folder.absolute().parents if place.is_dir())
            above = self.folder.parent if self.folder.parent.is_dir() else above
            named = (above / f"{self.folder.name}-{n}" for n in itertools.count(2))
            with contextlib.ExitStack() as held:
                folder = held.enter_context(disk.first_free_folder(named))
                held.enter_context(disk.locked(folder))
                self._held = held.pop_all()
            self._use(folder)
            lost = (
                "was moved or removed while the run goes on, and what is there now stays as it is"
            )
        self._know()
        self._untold.append(
            f"warning: {was} {lost}: what comes from now on, the checkpoints among it, is in the "
            f"new folder {self.folder}"
        )

    def _use(self, folder: Path) -> None:
        self.folder, self.files = folder, RunFiles(folder)
        self.checkpoints, self.tokenizer = self.files.checkpoints, self.files.tokenizer

    def _has_config(self) -> bool:
        try:
            self.config()
        except (OSError, ValueError):
            return False
        return True

    def _set_aside(self, path: Path) -> None:
        kept = disk.set_aside(path, OTHERS)
        self._untold.append(
            f"warning: {path} was replaced while the run goes on: what was there is {kept} now"
        )

    def news(self) -> list[str]:
        """Return messages for the user since the last call."""
        told, self._untold = self._untold, []
        return told

    def write_config(self, config: TrainConfig) -> None:
        """Write the configuration, replacing an earlier one."""
        if not self.is_written:
            return
        self._config = to_json(config).encode()
        disk.write_file(self.files.config, self._config, replace=True)

    def reopen(self) -> dict[str, Any]:
        """Remove the marks of the run's end, before anything else in its folder changes.

        A summary must not stand beside a checkpoint or a log that ends earlier. It is kept under
        another name until settle().

        Returns:
            The former summary; empty if there was none.
        Raises:
            OSError: if something else has the name of a file of the record; nothing is changed.
        """
        if not self.is_written:
            return {}
        self._check_files()
        disk.sweep(self.folder)
        self._know()
        note_owner(self.folder)
        files = self.files
        if files.environment.is_file():
            self._environment = files.environment.read_bytes()
        folders.remove(files.failed)
        if files.summary.is_file():
            folders.remove(files.former_summary)
            # write_config follows and flushes this, before a checkpoint or a row is dropped.
            disk.rename(files.summary, files.former_summary, flush=False)
        return try_read_object(files.former_summary, [])

    def cut(self, step: int) -> int:
        """Drop the log rows after a step, and all lines that are no rows.

        Where there are such lines, the log as it was is kept beside the new one.

        Returns:
            The number of lines that are no rows of a step.
        """
        if not self.is_written:
            return 0
        part = read_log(self.folder)
        placed = [row for row in part.rows if number(row.get("step")) is not None]
        n_lines = sum(bool(line.strip()) for line in _lines(self.files.log))
        if n_lines > len(placed):
            disk.copy_file(self.files.log, self.files.unreadable_log, replace=True)
        kept = [row for row in placed if row["step"] <= step]
        raw = "".join(map(_line, kept)).encode()
        disk.write_file(self.files.log, raw, replace=True)
        validations = (row for row in reversed(kept) if row.get("kind") == "eval")
        self.last_validation = next(validations, {})
        self._know_log()
        return n_lines - len(placed)

    def settle(self) -> None:
        """Flush the log, which now has the former summary, and remove that summary's file."""
        if self.is_written and self.files.former_summary.is_file():
            self.flush()
            folders.remove(self.files.former_summary)

    def _check_files(self) -> None:
        """Refuse a folder in which a file of the record cannot be written, removed or renamed."""
        files = self.files
        written = (files.config, files.environment, files.log, files.unreadable_log)
        for path in (*written, files.summary, files.former_summary, files.failed):
            disk.check_new_file(path, replace=True)
        disk.check_folder(self.tokenizer)

    def _forget_end(self) -> None:
        for path in (self.files.summary, self.files.former_summary, self.files.failed):
            folders.remove(path)  # creating the log, which follows, flushes this

    def log(self, row: dict[str, Any]) -> None:
        """Append one row; on a full disk the row is kept until the next one."""
        if not self.is_written:
            return
        if self._forward is not None:
            self._forward(row)
        with self._writing, contextlib.suppress(OSError):
            self._unwritten += _line(row).encode()
            self._append()

    def forward_rows(self, take: Callable[[dict[str, Any]], None]) -> None:
        """Pass every row logged from now on to a function, which has to return at once."""
        self._forward = take

    def flush(self) -> None:
        """Flush every row to disk.

        Raises:
            OSError: if writing fails.
        """
        with self._writing:
            self._append()
        sync.sync_file(self.files.log)

    def _append(self) -> None:
        if self._known is not None:
            if not self._is_here():
                told = "the folder of the run was moved or removed"
                raise FileNotFoundError(errno.ENOENT, told, str(self.folder))
            self._check_log()
        disk.append(self.files.log, self._unwritten)
        self._unwritten = b""
        self._log_is = _identity(self.files.log)
        self._first_row = self._first_row or _first_line(self.files.log)

    def _check_log(self) -> None:
        """Keep a file that somebody put in the place of the log; tell of any change."""
        log = self.files.log
        found, is_file = _identity(log), log.is_file()
        is_there, first = os.path.lexists(log), _first_line(log)
        if found == self._log_is and is_file == is_there:
            return
        is_others = any(path == log for path, _ in links_into_others(self.folder))
        if is_there and (not is_file or is_others or first not in (b"", self._first_row)):
            self._set_aside(log)
        elif found[2:] != self._log_is[2:] or not first:  # otherwise it is a copy
            self._untold.append(
                f"warning: {log} was changed while the run goes on: it may lack rows of earlier "
                "steps"
            )
        self._log_is = _identity(log)

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows of the log, except an incomplete last line.

        Raises:
            ValueError: if a line is no row; the message gives its number.
        """
        if not self.files.log.is_file():
            return []
        rows = []
        for place, line in enumerate(_lines(self.files.log), start=1):
            try:
                rows.append(dict(json.loads(line)))
            except (ValueError, RecursionError, TypeError) as error:
                raise ValueError(f"{self.files.log}, line {place} is not a row: {error}") from error
        return rows

    def config(self) -> TrainConfig:
        """Read the configuration the run was started with.

        Raises:
            FileNotFoundError: if the folder holds no run.
            ValueError: if the configuration cannot be read.
        """
        path = self.files.config
        if not path.is_file():
            raise FileNotFoundError(f"no run in {self.folder}: expected {path}")
        try:
            config = from_dict(TrainConfig, json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not a configuration: {error}") from error
        json_files.check_path(config.data.path, "data.path", path)
        json_files.check_path(config.init_from or "", "init_from", path)
        return config

    def environments(self) -> list[dict[str, Any]]:
        """Return the environments of the start and of each resumption that can be read."""
        rows = read_log(self.folder).rows
        found = [try_read_object(self.files.environment, []), *(r.get("environment") for r in rows)]
        return [environment for environment in found if isinstance(environment, dict)]

    def summary(self) -> dict[str, Any]:
        """Read the summary of the run.

        Raises:
            FileNotFoundError: if the run has not ended.
            ValueError: if the file holds no JSON object.
        """
        path = self.files.summary
        if not path.is_file():
            state = state_of(self.folder)
            raise FileNotFoundError(f"no {path}: the run is {state.name}, and not at its end")
        return json_files.read_object(path)


def _lines(log: Path) -> list[bytes]:
    """The lines of a log, except an incomplete last one."""
    return log.read_bytes().split(b"\n")[:-1] if log.is_file() else []


def _identity(file: Path) -> tuple[int, ...]:
    """Device, inode and size of a file; empty if there is none."""
    if not file.is_file():
        return ()
    found = file.stat()
    return found.st_dev, found.st_ino, found.st_size


def _first_line(file: Path) -> bytes:
    """The first line of a file; empty if it has none, or is no file."""
    if not file.is_file():  # to read a pipe would wait for a writer
        return b""
    with open(file, "rb") as opened:
        return opened.readline()


def _line(row: dict[str, Any]) -> str:
    return json.dumps(_without_nan(row)) + "\n"


def _without_nan(values: Any) -> Any:
    """Values with None in place of each number that is not finite, which JSON does not have."""
    if isinstance(values, float):
        return values if math.isfinite(values) else None
    if isinstance(values, dict):
        return {key: _without_nan(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_without_nan(value) for value in values]
    return values


def write_json(path: Path, values: Any) -> None:
    """Write values (a dict or a dataclass) as indented JSON atomically; NaN becomes null."""
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        values = dataclasses.asdict(values)
    disk.write_file(path, json_files.to_json(_without_nan(values)), replace=True)
