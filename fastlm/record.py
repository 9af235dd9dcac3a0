"""What a run leaves behind: configuration, environment, one log row after another, a summary.

Level 1. Everything is text: config.json, environment.json, log.jsonl, summary.json.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from fastlm.config import TrainConfig, from_dict, to_json

CHECKPOINTS = "checkpoints"
TOKENIZER = "tokenizer"


class RunRecord:
    """The folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_path = folder / "log.jsonl"
        self.checkpoints = folder / CHECKPOINTS
        self.tokenizer = folder / TOKENIZER

    @property
    def exists(self) -> bool:
        return (self.folder / "config.json").is_file()

    def start(self, config: TrainConfig, environment: dict[str, Any]) -> None:
        """Make the folder and write down what is run, and where."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write_config(config)
        write_json(self.folder / "environment.json", environment)
        self.log_path.write_bytes(b"")

    def write_config(self, config: TrainConfig) -> None:
        """Write down what is run, in place of what was written before."""
        (self.folder / "config.json").write_text(to_json(config), encoding="utf-8")

    def resume(self, step: int, environment: dict[str, Any]) -> None:
        """Forget the log rows after a step, and note the machine the run goes on with."""
        kept = [row for row in self.rows() if row["step"] <= step]
        self.log_path.write_text("".join(_line(row) for row in kept), encoding="utf-8")
        self.log({"kind": "resume", "step": step, "environment": environment})

    def log(self, row: dict[str, Any]) -> None:
        """Append one row."""
        with open(self.log_path, "a", encoding="utf-8") as out:
            out.write(_line(row))

    def rows(self) -> list[dict[str, Any]]:
        """All rows of the log; a last line that was cut off in writing is left out."""
        if not self.log_path.is_file():
            return []
        rows = []
        for line in self.log_path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                rows.append(json.loads(line))
        return rows

    def config(self) -> TrainConfig:
        """The configuration the run was started with.

        Raises:
            FileNotFoundError: if the folder holds no run.
            ValueError: if the configuration cannot be read.
        """
        path = self.folder / "config.json"
        if not path.is_file():
            raise FileNotFoundError(f"no run in {self.folder}: expected {path}")
        try:
            return from_dict(TrainConfig, json.loads(path.read_text(encoding="utf-8")))
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not a configuration: {error}") from error

    def summary(self) -> dict[str, Any]:
        """What the run came to.

        Raises:
            FileNotFoundError: if it has not come to its end.
        """
        path = self.folder / "summary.json"
        if not path.is_file():
            raise FileNotFoundError(f"no {path}: the run has not ended; --resume auto goes on")
        return dict(json.loads(path.read_text(encoding="utf-8")))


def _line(row: dict[str, Any]) -> str:
    # JSON has no NaN: a loss that diverged is written as null.
    clean = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
    return json.dumps(clean) + "\n"


def write_json(path: Path, values: Any) -> None:
    """Write values (a dict or a dataclass) as indented JSON."""
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        values = dataclasses.asdict(values)
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
