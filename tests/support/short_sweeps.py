"""Flags of sweeps of small runs, and runs that a sweep finds in its folder."""

from pathlib import Path

from fastlm.config import TrainConfig
from fastlm.runs.record import RunRecord, write_json
from fastlm.sweep import __main__ as sweep

SMALL = [
    "--recipe", "tiny", "--device", "cpu", "--model.d-model", "32", "--model.n-layers", "1",
    "--model.n-heads", "2", "--model.context-length", "32", "--batch-size", "4", "--eval-tokens",
    "256", "--eval-every", "5", "--log-every", "1",
]  # fmt: skip


def flags(data: Path, n_steps: int) -> list[str]:
    return [*SMALL, "--data", str(data), "--max-steps", str(n_steps)]


def gone_on_with(out: Path, capsys) -> str:
    sweep.main([str(out)])
    return capsys.readouterr().out


def begun_run(folder: Path, config: TrainConfig, *, loss: float | None = 5.0) -> RunRecord:
    """A run of three steps, finished if it has a loss."""
    end = {"step": 3, "tokens": 384, "elapsed_seconds": 1.0, "val_loss": loss}
    record = RunRecord(folder)
    record.start(config, {})
    record.log({"kind": "train", **end, "tokens_per_second": 9.0})
    if loss is not None:
        write_json(record.files.summary, {"finished": True, **end})
    return record
