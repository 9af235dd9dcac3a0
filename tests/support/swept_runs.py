"""Runs of a sweep and their records, written without training."""

import math

from fastlm.runs.record import RunRecord, write_json
from fastlm.sweep.plan import plan


def planned(vary, ablate=(), seeds=(0,)):
    return plan(vary, list(ablate), list(seeds), ["--recipe", "tiny", "--max-steps", "40"])


def record(folder, losses, *, speed=100.0, finished=True, bad_at=None, whole=None):
    """A run of 10 steps and 1,000 tokens between validations, and of a second each."""
    run = RunRecord(folder)
    folder.mkdir(parents=True)
    for i, loss in enumerate(losses):
        where = {"step": 10 * i, "tokens": 1000 * i, "elapsed_seconds": 1000 * i / speed}
        if i:
            run.log({"kind": "train", **where, "loss": loss, "tokens_per_second": speed})
        run.log({"kind": "eval", **where, "val_loss": loss, "val_tokens": 512})
    if bad_at is not None:
        run.log({"kind": "not finite", "step": bad_at, "tokens": 5, "loss": math.nan})
        write_json(run.files.nonfinite_step(bad_at), {"step": bad_at})
    if finished:
        end = {"step": 10 * i, "tokens": 1000 * i, "elapsed_seconds": 1000 * i / speed}
        loss = losses[-1] if whole is None else whole
        run.log({"kind": "eval", **end, "val_loss": loss, "val_tokens": 9999})
        write_json(folder / "summary.json", {"finished": True, "val_loss": loss, **end})
