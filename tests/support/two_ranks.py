"""Run by torchrun, in two processes: python two_ranks.py DATA FOLDER. What test_ranks.py checks.

One start for all, as it takes seconds.
"""

import dataclasses
import gc
import json
import shutil
import sys
import time
from pathlib import Path

import torch
from pictures import write_picture
from short_runs import MODEL, config
from torch import nn

from fastlm.config import OptimConfig, TrainConfig
from fastlm.config.recipes import load_recipe
from fastlm.devices.ranks import Ranks, joined
from fastlm.devices.torchrun import left_at_once
from fastlm.optim.muon import NorMuon
from fastlm.train import finishing, train
from fastlm.train.trainer import Trainer
from fastlm.train.watch import Diverged

SHAPES = [(7, 3), (3, 4, 6), (4, 6), (7, 3), (7, 3), (5, 9), (1, 2)]
"""shapes of matrices that two processes cannot share evenly"""
N_STEPS = 20
STOPPED_AFTER = 10
NAN_AT = 7


def short(data: Path, **changes) -> TrainConfig:
    """Return the configuration of a run of 20 steps of two micro-batches each."""
    optim = OptimConfig(name="normuon", lr=1e-2, warmup_fraction=0.1)
    base = config(data, optim=optim, micro_batch=4, log_every=1, checkpoint_keep=9)
    return dataclasses.replace(base, **changes)


def with_all_parts(data: Path, **changes) -> TrainConfig:
    """Return a short run's configuration with all parts of the leaderboard's."""
    recipe = load_recipe("leaderboard-tiny")
    sizes = dataclasses.asdict(MODEL) | {"n_layers": 4}
    names = ("vocab_size", "context_length", "n_layers", "d_model", "n_heads")
    model = dataclasses.replace(recipe.model, d_ff=64, **{name: sizes[name] for name in names})
    optim = dataclasses.replace(recipe.optim, tie_until=0.5, average_tail=0.4, average_every=2)
    return short(data, model=model, optim=optim, **changes)


def muon_steps(ranks: Ranks) -> list[torch.Tensor]:
    """Return the matrices after five steps on the same gradients."""
    g = torch.Generator().manual_seed(0)
    matrices = [nn.Parameter(torch.randn(shape, generator=g)) for shape in SHAPES]
    optimizer = NorMuon(matrices, lr=0.1, weight_decay=0.1, cautious=True, ranks=ranks)
    for _ in range(5):
        for p in matrices:
            p.grad = torch.randn(p.shape, generator=g)
        optimizer.step()
    return [p.detach() for p in matrices]


def not_finite_on_one(ranks: Ranks, data: Path, run: Path) -> str:
    """Return the error message of a run whose second process meets a NaN."""
    original = Trainer.train_step

    def train_step(self, stream, **place):
        loss = self.loss
        if ranks.rank == 1 and self.step == NAN_AT - 1:
            self.loss = lambda inputs, targets: loss(inputs, targets) * torch.nan
        try:
            return original(self, stream, **place)
        finally:
            self.loss = loss

    Trainer.train_step = train_step
    try:
        train(short(data, checkpoint_every=1), run, ranks=ranks)
    except Diverged as error:
        return str(error)
    finally:
        Trainer.train_step = original
    return "it went on"


def plotted_slowly(ranks: Ranks, data: Path, run: Path) -> bool:
    """Return whether all files are written when this process leaves, even if plotting is slow."""
    original = finishing.plot_curves

    def plot_curves(*arguments, **options):
        time.sleep(1)
        original(*arguments, **options)

    finishing.plot_curves = plot_curves
    try:
        train(short(data, max_steps=2), run, ranks=ranks)
    finally:
        finishing.plot_curves = original
    return (run / "curve.png").exists()


def stopped_and_resumed(ranks: Ranks, whole: Path, run: Path, run_config: TrainConfig) -> None:
    """A copy of a run as it was after some steps, run to its end."""
    if ranks.is_first:
        cut_off(whole, run)
    ranks.wait()
    train(run_config, run, resume=True, ranks=ranks)


def cut_off(whole: Path, run: Path) -> None:
    """Copy a run that ended as it was after STOPPED_AFTER steps."""
    shutil.copytree(whole, run)
    (run / "summary.json").unlink()
    for path in (run / "checkpoints").iterdir():
        if int(path.name.split("-")[1]) > STOPPED_AFTER:
            shutil.rmtree(path)


def main() -> None:
    finishing.plot_curves = lambda rows, out, *, title: write_picture(out)
    gc.freeze()  # PyTorch's objects are not scanned anew in each of the runs
    data, folder = Path(sys.argv[1]), Path(sys.argv[2])
    with joined("ddp", torch.device("cpu")) as ranks:
        fsdp = Ranks(ranks.rank, ranks.size, is_fsdp=True)
        told = {
            "not finite": not_finite_on_one(ranks, data, folder / "nan"),
            "is written": plotted_slowly(ranks, data, folder / "slow"),
        }
        train(short(data), folder / "ddp", ranks=ranks)
        train(short(data), folder / "fsdp", ranks=fsdp)
        train(with_all_parts(data), folder / "ddp-all", ranks=ranks)
        train(with_all_parts(data), folder / "fsdp-all", ranks=fsdp)
        stopped_and_resumed(ranks, folder / "ddp-all", folder / "ddp-resumed", with_all_parts(data))
        stopped_and_resumed(
            fsdp, folder / "fsdp-all", folder / "fsdp-resumed", with_all_parts(data)
        )
        stopped_and_resumed(ranks, folder / "one", folder / "one-two", short(data))
        torch.save(muon_steps(ranks), folder / f"muon-{ranks.rank}.pt")
        (folder / f"told-{ranks.rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    with left_at_once():
        main()
        sys.exit(0)
