"""What a run leaves behind: configuration, environment, one log row after another, a summary.

Everything is text; fastlm.runs.run_files has the names.
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
from fastlm.files import disk
from fastlm.runs.run_files import RunFiles
from fastlm.runs.state import state_of


class RunRecord:
    """The folder of one run.

    Args:
        is_written: whether this process writes there; of several one does.
    """

    def __init__(self, folder: Path, *, is_written: bool = True) -> None:
        self.folder = folder
        self.is_written = is_written
        self.files = RunFiles(folder)
        self.checkpoints = self.files.checkpoints
        self.tokenizer = self.files.tokenizer
        self._forward: Callable[[dict[str, Any]], None] | None = None
        self._unwritten = b""
        self._writing = threading.Lock()
        """a checkpoint flushes the log from a thread of its own"""

    @property
    def exists(self) -> bool:
        return self.files.config.is_file()

    def start(self, config: TrainConfig, environment: dict[str, Any]) -> None:
        """Make the folder and write down what is run, and where."""
        if not self.is_written:
            return
        disk.make_folder(self.folder)
        disk.sweep(self.folder)
        # There may be rows of a run that was stopped before its first checkpoint.
        disk.write_file(self.files.log, b"", replace=True)
        disk.write_file(self.files.environment, _json(environment), replace=True)
        self.write_config(config)  # last: it makes the folder a run, and waits for all names

    def write_config(self, config: TrainConfig) -> None:
        """Write down what is run, in place of what was written before."""
        if not self.is_written:
            return
        disk.write_file(self.files.config, to_json(config).encode(), replace=True)

    def resume(self, step: int, environment: dict[str, Any]) -> None:
        """Forget the log rows after a step, and note the machine the run goes on with."""
        if not self.is_written:
            return
        disk.sweep(self.folder)
        kept = [row for row in self.rows() if row["step"] <= step]
        disk.write_file(self.files.log, "".join(map(_line, kept)).encode(), replace=True)
        self.log({"kind": "resume", "step": step, "environment": environment})

    def log(self, row: dict[str, Any]) -> None:
        """Append one row; on a full disk it waits for the next one."""
        if not self.is_written:
            return
        if self._forward is not None:
            self._forward(row)
        with self._writing, contextlib.suppress(OSError):
            self._unwritten += _line(row).encode()
            self._append()

    def forward_rows(self, take: Callable[[dict[str, Any]], None]) -> None:
        """Give every row that is logged from now on to a function too; it returns at once."""
        self._forward = take

    def flush(self) -> None:
        """Wait until the disk has every row.

        Raises:
            OSError: if it does not take them.
        """
        with self._writing:
            self._append()
        disk.sync_file(self.files.log)

    def _append(self) -> None:
        disk.append(self.files.log, self._unwritten)
        self._unwritten = b""

    def rows(self) -> list[dict[str, Any]]:
        """All rows of the log; a last line that was cut off in writing is left out.

        Raises:
            ValueError: for a line that is no row, with its number.
        """
        if not self.files.log.is_file():
            return []
        rows = []
        for number, line in enumerate(self.files.log.read_bytes().split(b"\n")[:-1], start=1):
            try:
                rows.append(dict(json.loads(line)))
            except (ValueError, RecursionError, TypeError) as error:
                raise ValueError(
                    f"{self.files.log}, line {number} is not a row: {error}"
                ) from error
        return rows

    def config(self) -> TrainConfig:
        """The configuration the run was started with.

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
        """What the run came to.

        Raises:
            FileNotFoundError: if it has not come to its end.
        """
        path = self.files.summary
        if not path.is_file():
            state = state_of(self.folder)
            raise FileNotFoundError(f"no {path}: the run is {state.name}, and not at its end")
        return dict(json.loads(path.read_text(encoding="utf-8")))


def _line(row: dict[str, Any]) -> str:
    # JSON has no NaN: a loss that diverged is written as null.
    clean = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
    return json.dumps(clean) + "\n"


def write_json(path: Path, values: Any) -> None:
    """Write values (a dict or a dataclass) as indented JSON, whole or not at all."""
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        values = dataclasses.asdict(values)
    disk.write_file(path, _json(values), replace=True)


def _json(values: Any) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()
