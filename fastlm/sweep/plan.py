"""Which runs a sweep has: grids over fields of the configuration, named ablations, seeds."""

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fastlm import cli
from fastlm.accounting import largest_batch, step_memory
from fastlm.config import TrainConfig
from fastlm.config.dotted import leaves
from fastlm.sweep.ablations import ABLATIONS, BASE
from fastlm.train.command import configuration

LIMIT = "limit"
"""as the end of batch sizes: what fits the device's memory at once"""

_SET_BY_SWEEP = ("out", "resume", "seed", "profile")
_BATCH_SIZE = "batch_size"


class Run(NamedTuple):
    """One run of a sweep.

    Attributes:
        name: of its folder.
        ablation: its name; None where there are none.
        values: of the fields that vary, as they were written.
        flags: of fastlm.train, all but --out.
        config: what they come to.
    """

    name: str
    ablation: str | None
    values: dict[str, str]
    seed: int
    flags: tuple[str, ...]
    config: TrainConfig

    @property
    def group(self) -> tuple[str | None, tuple[tuple[str, str], ...]]:
        """What runs that differ in their seed alone have in common."""
        return self.ablation, tuple(self.values.items())

    @property
    def label(self) -> str:
        """For people: what sets it apart, its seed aside."""
        parts = [self.ablation] if self.ablation else []
        parts += [f"{field} {value}" for field, value in self.values.items()]
        return ", ".join(parts) or BASE


def plan(
    vary: Sequence[str], ablate: Sequence[str], seeds: Sequence[int], flags: Sequence[str]
) -> list[Run]:
    """All runs: every value of each field with each of the others, for each ablation and seed.

    Args:
        vary: FIELD=VALUE,VALUE... or FIELD=FIRST..LAST, which doubles; as in optim.lr=1e-4,1e-3 or
            batch-size=1..limit. Switches are yes or no, several numbers joined by +.
        ablate: names from ABLATIONS; the recipe as it is comes with them.
        flags: of fastlm.train, for all runs.
    Raises:
        ValueError: for fields, values, names or flags that there are not, and for changes that
            change nothing.
    """
    for flag in _SET_BY_SWEEP:
        if any(re.fullmatch(rf"--(no-)?{flag}(=.*)?", word) for word in flags):
            instead = "give --seeds" if flag == "seed" else "leave it out"
            raise ValueError(f"--{flag} is set by the sweep, for each run: {instead}")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be there, each once: got {' '.join(map(str, seeds))}")
    base = configuration(flags)
    axes = [_axis(text, base, flags) for text in vary]
    fields = [field for field, _ in axes]
    for field in fields:
        if fields.count(field) > 1:
            raise ValueError(f"{field} varies twice: give all its values in one --vary")
    named: list[str | None] = [None]
    if ablate:
        for asked in ablate:
            if asked not in ABLATIONS and asked != BASE:
                raise ValueError(cli.unknown("ablation", asked, ABLATIONS))
        named = [BASE, *dict.fromkeys(name for name in ablate if name != BASE)]
    runs = []
    for name, values, seed in itertools.product(
        named, itertools.product(*(values for _, values in axes)), seeds
    ):
        changes = dict(zip(fields, values, strict=True))
        runs.append(_run(name, changes, seed, seeds, flags, base))
    _check_they_differ(runs)
    return runs


def _run(
    ablation: str | None,
    values: dict[str, str],
    seed: int,
    seeds: Sequence[int],
    flags: Sequence[str],
    base: TrainConfig,
) -> Run:
    words = [*flags, *ABLATIONS.get(ablation or BASE, ())]
    for field, value in values.items():
        words += _as_words(field, value)
    words += _at_equal_tokens(base, values.get(_BATCH_SIZE))
    words += ["--seed", str(seed)]
    parts = [ablation] if ablation else []
    parts += [f"{_as_flag(field).split('.')[-1]}-{value}" for field, value in values.items()]
    parts += [f"seed-{seed}"] if len(seeds) > 1 or not parts else []
    name = re.sub(r"[^\w.+-]+", "-", "_".join(parts))
    return Run(name, ablation, values, seed, tuple(words), configuration(words))


def _at_equal_tokens(base: TrainConfig, batch_size: str | None) -> list[str]:
    """Validations and log rows of another batch size after as many tokens as at the recipe's."""
    if batch_size is None or not batch_size.isdecimal() or int(batch_size) == 0:
        return []
    words = []
    for name in ("eval_every", "log_every"):
        n_windows = getattr(base, name) * base.batch_size
        words += [f"--{_as_flag(name)}", str(max(1, round(n_windows / int(batch_size))))]
    return words


def _check_they_differ(runs: Iterable[Run]) -> None:
    first: dict[str, Run] = {}
    for run in runs:
        told = repr(run.config)
        if told in first:
            raise ValueError(
                f"{run.label} and {first[told].label} are the same run: the recipe is like that "
                "already; leave one of them out"
            )
        first[told] = run


def _as_flag(field: str) -> str:
    return field.replace("_", "-")


def _as_words(field: str, value: str) -> list[str]:
    """Flag and value; of switches the flag alone, of tuples a word for each number: 4+8+16."""
    flag = _as_flag(field)
    if value in ("yes", "no"):
        section, _, name = flag.rpartition(".")
        switch = name if value == "yes" else f"no-{name}"
        return [f"--{section}.{switch}" if section else f"--{switch}"]
    is_tuple = re.fullmatch(r"\d+(\+\d+)+", value)
    words = value.split("+") if is_tuple else [value]
    return [f"--{flag}", *words]


def _axis(text: str, base: TrainConfig, flags: Sequence[str]) -> tuple[str, list[str]]:
    field, equals, listed = text.partition("=")
    field = field.strip().removeprefix("--").replace("-", "_")
    if not equals or not listed:
        raise ValueError(f"expected FIELD=VALUE,VALUE as in optim.lr=1e-3,3e-3: got {text!r}")
    # All that a flag can set; the flag of data.path is called otherwise.
    known = ["data" if name == "data.path" else name for name in leaves(base)]
    if field not in known:
        hits = [name for name in known if name.split(".")[-1] == field]
        if len(hits) != 1:
            raise ValueError(cli.unknown("field", field, known))
        field = hits[0]
    values: list[str] = []
    for part in listed.split(","):
        first, dots, last = part.partition("..")
        values += _doubled(field, first, last, flags) if dots else [part]
    if len(set(values)) < len(values) or "" in values:
        raise ValueError(f"values must be there, each once: got {text!r}")
    return field, values


def _doubled(field: str, first: str, last: str, flags: Sequence[str]) -> list[str]:
    """FIRST, twice that ... up to LAST, which comes last."""
    if last == LIMIT and field != _BATCH_SIZE:
        raise ValueError(f"{LIMIT} is for batch-size: got {field}={first}..{last}")
    try:
        value = int(first)
        end = memory_limit(configuration(flags)) if last == LIMIT else int(last)
    except ValueError as error:
        if last == LIMIT and first.isdecimal():
            raise
        raise ValueError(
            f"FIRST..LAST are whole numbers, doubled: got {field}={first}..{last}"
        ) from error
    if not 1 <= value <= end:
        raise ValueError(f"{field}={first}..{last} has no values: {first} is above {end}")
    values = []
    while value < end:
        values.append(str(value))
        value *= 2
    return [*values, str(end)]


def memory_limit(config: TrainConfig) -> int:
    """The most windows of a step that go through the network at once on this machine.

    Raises:
        ValueError: if not even one does.
    """
    from fastlm.devices.hardware import choose_compute_dtype, choose_device
    from fastlm.train.micro_batch import usable_memory

    device = choose_device(config.device)
    dtype, _ = choose_compute_dtype(device, config.bf16)
    n_windows = largest_batch(
        lambda n: step_memory(config, n, bf16=dtype.itemsize == 2).total,
        usable_memory(config, device),
    )
    if not n_windows:
        raise ValueError(f"not one window fits the memory of {device}: take a smaller network")
    return n_windows
