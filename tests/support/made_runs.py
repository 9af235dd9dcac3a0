"""Write folders of runs as fastlm.train leaves them, without training."""

import json
import math
from pathlib import Path
from typing import Any


def train_row(step: int, **changes: Any) -> dict[str, Any]:
    """A row of training; the loss falls with the step."""
    row = {
        "step": step, "tokens": step * 4096, "seconds": step * 0.5, "elapsed_seconds": 9.0 + step * 0.5,
        "kind": "train", "loss": 2.0 + 6.0 / math.sqrt(step + 1) + 0.05 * math.sin(step * 1.7), "batch_size": 4, "lr": 0.003 / (1 + step / 1000),
        "grad_norm": 0.4 + 0.1 * math.cos(step * 2.3), "tokens_per_second": 8000.0 + step % 97, "mfu": 0.41234 + (step % 13) / 1e4,
        "memory_bytes": 1_058_500_608 + step,
    }  # fmt: skip
    return row | changes


def eval_row(step: int, **changes: Any) -> dict[str, Any]:
    """A row of validation."""
    row = {
        "step": step,
        "tokens": step * 4096,
        "seconds": step * 0.5,
        "elapsed_seconds": 9.0 + step * 0.5,
    }
    return row | {"kind": "eval", "val_loss": 2.1 + 6.0 / math.sqrt(step + 1), "val_tokens": 512, "whole_file": False} | changes  # fmt: skip


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_run(
    folder: Path,
    rows: list[dict[str, Any]] | None = None,
    *,
    config: dict[str, Any] | None = None,
    is_finished: bool = True,
    sample: str = "",
) -> Path:
    """Write a run; by default one of 40 rows."""
    if rows is None:
        rows = [eval_row(0), *(train_row(10 * i) for i in range(1, 40)), eval_row(390)]
    folder.mkdir(parents=True)
    changed = {"recipe": "tiny", "seed": 0, "time_budget": 200.0, "optim": {"lr": 0.003}, "data": {"path": "data/mine"}} | (config or {})  # fmt: skip
    (folder / "config.json").write_text(json.dumps(changed))
    environment = {"python": "3.11.7", "versions": {"torch": "2.13.0"}, "arguments": ["--out", folder.name]}  # fmt: skip
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "log.jsonl").write_text(lines(rows))
    if is_finished:
        last = max((row["step"] for row in rows), default=0)
        summary = {
            "finished": True, "stopped_by": "steps", "step": last, "tokens": last * 4096, "elapsed_seconds": 204.0, "val_loss": 2.4321,
            "bits_per_byte": 0.98765, "tokens_per_second": 8123.4, "mfu": 0.41, "peak_memory_bytes": 1_058_500_608, "n_parameters": 4_262_144,
        }  # fmt: skip
        (folder / "summary.json").write_text(json.dumps(summary))
    if sample:
        (folder / "sample.txt").write_text(sample, encoding="utf-8")
    return folder
