"""The files of a run and of a sweep by what they hold: the one place that has their names."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFiles:
    """Paths in the folder of a run, whether or not there is something yet.

    >>> RunFiles(Path("out/mine")).log
    PosixPath('out/mine/log.jsonl')
    """

    folder: Path

    @property
    def config(self) -> Path:
        """Every setting; the last file to be written when a run begins."""
        return self.folder / "config.json"

    @property
    def environment(self) -> Path:
        """Versions, machine and arguments."""
        return self.folder / "environment.json"

    @property
    def log(self) -> Path:
        """A JSON object a line."""
        return self.folder / "log.jsonl"

    @property
    def summary(self) -> Path:
        """The run's end: loss, tokens, seconds, and whether it can go on."""
        return self.folder / "summary.json"

    @property
    def curve(self) -> Path:
        return self.folder / "curve.png"

    @property
    def sample(self) -> Path:
        """A text by the finished model."""
        return self.folder / "sample.txt"

    @property
    def checkpoints(self) -> Path:
        """A folder of folders, see fastlm.checkpoint."""
        return self.folder / "checkpoints"

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer"

    @property
    def profile(self) -> Path:
        """The table of --profile."""
        return self.folder / "profile.md"

    @property
    def trace(self) -> Path:
        """Some steps under --profile, for chrome://tracing."""
        return self.folder / "trace.json"

    @property
    def tensorboard(self) -> Path:
        return self.folder / "tensorboard"

    @property
    def wandb_id(self) -> Path:
        """Which run of wandb goes on when this one does."""
        return self.folder / "wandb-id.txt"

    @property
    def output(self) -> Path:
        """Lines that the run printed, where a sweep started it."""
        return self.folder / "output.txt"

    @property
    def failed(self) -> Path:
        """How the process of a sweep's run ended, where that was with an error."""
        return self.folder / "failed.json"

    def nonfinite_step(self, step: int | str) -> Path:
        """Describes the step that ended a run whose loss or gradients were not finite."""
        return self.folder / f"not-finite-step-{step}.json"

    def evidence(self) -> list[Path]:
        """Those that tell of the run without its weights and its text, as far as they are there."""
        named = [self.config, self.environment, self.log, self.summary, self.curve, self.sample]
        there = [path for path in (*named, self.failed) if path.is_file()]
        return there + sorted(self.folder.glob(self.nonfinite_step("*").name))


@dataclass(frozen=True)
class SweepFiles:
    """Paths in the folder of a sweep, beside the folders of its runs."""

    folder: Path

    @property
    def plan(self) -> Path:
        """The arguments that it was begun with."""
        return self.folder / "sweep.json"

    @property
    def flags(self) -> Path:
        """A line for each run, which Slurm's array reads."""
        return self.folder / "runs.txt"

    @property
    def table(self) -> Path:
        return self.folder / "table.md"

    @property
    def curves(self) -> Path:
        """All runs in one figure."""
        return self.folder / "curves.png"

    @property
    def loss(self) -> Path:
        """Final loss against the field that varies."""
        return self.folder / "loss.png"

    @property
    def equal(self) -> Path:
        """Losses of batch sizes after as many tokens, and after as many seconds."""
        return self.folder / "equal.png"

    def evidence(self) -> list[Path]:
        """Those that tell what came of it, as far as they are there."""
        named = [self.plan, self.table, self.curves, self.loss, self.equal]
        return [path for path in named if path.is_file()]
