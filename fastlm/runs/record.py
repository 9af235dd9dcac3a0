"""The record of a run: configuration, environment, log rows and a summary.

All files are text; fastlm.runs.run_files has their names.
"""

import contextlib
import dataclasses
import json
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastlm.config import TrainConfig
from fastlm.config.dicts import from_dict, to_json
from fastlm.files import disk, folders, json_files, sync
from fastlm.runs.found import number, read_log, try_read_object
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
        self._unwritten = b""
        self._writing = threading.Lock()
        """Lock of the log, which the thread that writes checkpoints flushes too."""

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
        self._environment = json_files.to_json(environment)
        disk.write_file(self.files.environment, self._environment, replace=True)
        self.write_config(config)  # last, as it makes the folder a run and flushes all names

    def renew(self, config: TrainConfig) -> bool:
        """Make the folder a run again if it was moved or removed since; return whether it was."""
        if not self.is_written or self.exists:
            return False
        folders.make_folder(self.folder)
        if self._environment:
            disk.write_file(self.files.environment, self._environment, replace=True)
        self.write_config(config)
        return True

    def write_config(self, config: TrainConfig) -> None:
        """Write the configuration, replacing an earlier one."""
        if not self.is_written:
            return
        disk.write_file(self.files.config, to_json(config).encode(), replace=True)

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
        kept = "".join(_line(row) for row in placed if row["step"] <= step)
        disk.write_file(self.files.log, kept.encode(), replace=True)
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
        disk.append(self.files.log, self._unwritten)
        self._unwritten = b""

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
            return from_dict(TrainConfig, json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not a configuration: {error}") from error

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
