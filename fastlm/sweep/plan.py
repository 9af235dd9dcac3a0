"""The runs of a sweep: a grid over fields of the configuration, named ablations and seeds."""

import functools
import hashlib
import itertools
import math
import re
import types
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from fastlm import cli
from fastlm.accounting import largest_batch, step_memory
from fastlm.cli.comma_lists import comma_separated
from fastlm.config import MOST_INTEGER, RATES, OptimConfig, TrainConfig
from fastlm.config.dotted import leaves
from fastlm.config.float32 import check_rate
from fastlm.sweep.ablations import ABLATIONS, BASE
from fastlm.train.command import configuration

LIMIT = "limit"
"""the largest batch size that fits the device's memory at once, as the end of a range"""

LR_FACTOR = "lr_factor"
"""a field that only sweeps have: it multiplies all learning rates of the run"""

_SET_BY_SWEEP = ("out", "resume", "seed", "profile")
_RECIPE, _BATCH_SIZE = "recipe", "batch_size"
_PATHS = ("data", "init_from")
# The AdaGrad of the n-gram tables keeps its own.
_RATES = tuple(name for name in RATES if name != "ngram_lr")

PATHS = {"data.path": "--data", "init_from": "--init-from"}
"""Fields with a path, which begins where the sweep was begun, and their flags"""


class Run(NamedTuple):
    """One run of a sweep.

    Attributes:
        name: its folder's name.
        ablation: the ablation's name; None in a sweep without ablations.
        values: value of each field that varies, as written on the command line.
        flags: flags of fastlm.train, without --out.
        config: the configuration that the flags give.
    """

    name: str
    ablation: str | None
    values: dict[str, str]
    seed: int
    flags: tuple[str, ...]
    config: TrainConfig

    @property
    def group(self) -> tuple[str | None, tuple[tuple[str, str], ...]]:
        """Everything that distinguishes the run from others, except its seed."""
        return self.ablation, tuple(self.values.items())

    @property
    def label(self) -> str:
        """The group in words."""
        parts = [self.ablation] if self.ablation else []
        parts += [f"{field} {value}" for field, value in self.values.items()]
        return ", ".join(parts) or BASE


def plan(
    vary: Sequence[str], ablate: Sequence[str], seeds: Sequence[int], flags: Sequence[str]
) -> list[Run]:
    """All runs: each combination of values, for each ablation and seed.

    Args:
        vary: FIELD=VALUE,VALUE... or FIELD=FIRST..LAST, which doubles, as in optim.lr=1e-4,1e-3,
            batch-size=1..limit, recipe=baseline,leaderboard or lr-factor=1,2. The value of a switch
            is yes or no; the numbers of a tuple are joined by +; none is no value.
        ablate: names from ABLATIONS; the unchanged recipe is added to them.
        flags: flags of fastlm.train for all runs.
    Raises:
        ValueError: for unknown fields, names or flags, for invalid values, and for two runs with
            the same configuration or folder.
    """
    for flag in _SET_BY_SWEEP:
        if any(re.fullmatch(rf"--(no-)?{flag}(=.*)?", word, re.DOTALL) for word in flags):
            raise _set_by_sweep(flag)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be there, each once: got {' '.join(map(str, seeds))}")
    base = configuration(flags)
    axes = [_axis(text, base, flags) for text in _joined(vary)]
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


def _set_by_sweep(field: str) -> ValueError:
    instead = "give --seeds" if field == "seed" else "leave it out"
    return ValueError(f"--{field} is set by the sweep, for each run: {instead}")


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
        words += [] if field == LR_FACTOR else _as_words(field, value)
    if _RECIPE in values and _BATCH_SIZE in values:
        base = configuration([*flags, *_as_words(_RECIPE, values[_RECIPE])])
    words += _at_equal_tokens(base, values.get(_BATCH_SIZE))
    if LR_FACTOR in values:
        words += _multiplied_rates(configuration(words).optim, values[LR_FACTOR])
    words += ["--seed", str(seed)]
    parts = [ablation] if ablation else []
    parts += [f"{_as_flag(field).split('.')[-1]}-{value}" for field, value in values.items()]
    parts += [f"seed-{seed}"] if len(seeds) > 1 or not parts else []
    name = folder_name("_".join(parts))
    return Run(name, ablation, values, seed, tuple(words), configuration(words))


MOST_CHARACTERS = 120
"""Greatest length of a folder's name before its hash"""


def folder_name(text: str) -> str:
    """A name for a folder; different texts get different names, on every file system.

    A text that is no name as it stands, or differs from another in upper case alone, gets its hash.

    >>> folder_name("lr-1e-3_batch-size-8"), folder_name("data-a/b")
    ('lr-1e-3_batch-size-8', 'data-a-b-71567eaf')
    """
    name = re.sub(r"[^A-Za-z0-9_.+-]+", "-", text)[:MOST_CHARACTERS]
    if name == text and name == name.lower():
        return name
    return f"{name}-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def _at_equal_tokens(base: TrainConfig, batch_size: str | None) -> list[str]:
    """Flags that keep the tokens between validations, and between log rows, as in the recipe."""
    if batch_size is None or not batch_size.isdecimal() or int(batch_size) == 0:
        return []
    words = []
    for name in ("eval_every", "log_every"):
        n_windows = getattr(base, name) * base.batch_size
        words += [f"--{_as_flag(name)}", str(max(1, round(n_windows / int(batch_size))))]
    return words


def _multiplied_rates(optim: OptimConfig, factor: str) -> list[str]:
    """Flags that multiply all learning rates that the optimizer uses."""
    try:
        by = float(factor)
    except ValueError:
        by = math.nan
    if not 0 < by < math.inf:
        raise ValueError(f"lr-factor must be a number above 0: got {factor!r}")
    words = []
    for name in _RATES:
        rate = getattr(optim, name)
        if rate is not None and (name != "muon_lr" or optim.name in ("muon", "normuon")):
            check_rate(f"lr-factor {factor} times optim.{name}", rate * by)
            words += [f"--optim.{_as_flag(name)}", f"{rate * by:.6g}"]
    return words


def running_order(runs: Iterable[Run]) -> list[Run]:
    """The order in which a machine runs them, so that its slow hours fall on all alike.

    Runs that differ only in the last field, or in the ablation if no field varies, are neighbours:
    seed after seed, and in reverse for every second seed.
    """
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault((run.ablation, *run.values.items())[:-1], []).append(run)
    ordered = []
    for group in groups.values():
        for i, seed in enumerate(dict.fromkeys(run.seed for run in group)):
            same_seed = [run for run in group if run.seed == seed]
            ordered += same_seed[:: -1 if i % 2 else 1]
    return ordered


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
    """Flag and value; a switch is a flag alone, a tuple (4+8+16) has a word for each number."""
    flag, kinds = _as_flag(field), _kinds(field)
    if bool in kinds:
        if value.lower() not in _SWITCHED:
            raise ValueError(f"{field} is a switch, whose values are yes and no: got {value!r}")
        section, _, name = flag.rpartition(".")
        switch = name if _SWITCHED[value.lower()] else f"no-{name}"
        return [f"--{section}.{switch}" if section else f"--{switch}"]
    if type(None) in kinds and value.lower() == "none":
        return [f"--{flag}", "None"]
    if field in _PATHS and value.lower() == "none":
        return []  # no flag takes an empty path
    # The + of an exponent, as in 1e+3, is part of its number.
    words = re.split(r"(?<![eE])\+", value) if tuple in kinds else [value]
    return [f"--{flag}", *words]


_SWITCHED = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


@functools.cache
def _kinds(field: str) -> frozenset[Any]:
    """The types of a field, by its dotted name: {int, Literal} for int | Literal["auto"]."""
    kind: Any = TrainConfig
    for name in {"data": "data.path"}.get(field, field).split("."):
        kind = get_type_hints(kind)[name]
    members = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return frozenset(get_origin(member) or member for member in members)


def _joined(words: Sequence[str]) -> list[str]:
    """Join words that the shell split at a blank after a comma: ["lr=1,", "2"] -> ["lr=1,2"]."""
    joined: list[str] = []
    for word in words:
        if joined and (joined[-1].endswith(",") or word.startswith(",")) and "=" not in word:
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def _axis(text: str, base: TrainConfig, flags: Sequence[str]) -> tuple[str, list[str]]:
    field, equals, listed = text.partition("=")
    field = field.strip().removeprefix("--").replace("-", "_")
    if not equals or not listed:
        raise ValueError(f"expected FIELD=VALUE,VALUE as in optim.lr=1e-3,3e-3: got {text!r}")
    if field in _SET_BY_SWEEP:
        raise _set_by_sweep(field)
    # All that a flag can set; the flag of data.path is called otherwise.
    known = ["data" if name == "data.path" else name for name in leaves(base)]
    known.append(LR_FACTOR)
    if field not in known:
        hits = [name for name in known if name.split(".")[-1] == field]
        if len(hits) != 1:
            raise ValueError(cli.unknown("field", field, known))
        field = hits[0]
    is_text = field != LR_FACTOR and str in _kinds(field)  # a path may have two dots
    values: list[str] = []
    for part in comma_separated("--vary", listed, "values"):
        first, dots, last = part.partition("..")
        values += _doubled(field, first, last, flags) if dots and not is_text else [part]
    if len(set(values)) < len(values):
        raise ValueError(f"--vary takes each value once: got {text!r}")
    given = {word.partition("=")[0].replace("-", "_") for word in flags}
    if field in _PATHS and f"__{field}" in given and "none" in map(str.lower, values):
        flag = f"--{_as_flag(field)}"
        raise ValueError(f"{field}=none is a run without {flag}: name its other values in --vary")
    return field, values


def _doubled(field: str, first: str, last: str, flags: Sequence[str]) -> list[str]:
    """FIRST, doubled until it passes LAST, then LAST."""
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
    if end > MOST_INTEGER:
        raise ValueError(f"{field} must be at most 2^63 - 1: got one of {end.bit_length()} bits")
    if not 1 <= value <= end:
        raise ValueError(f"{field}={first}..{last} has no values: {first} is above {end}")
    values = []
    while value < end:
        values.append(str(value))
        value *= 2
    return [*values, str(end)]


def memory_limit(config: TrainConfig) -> int:
    """The most windows of a step that fit the memory of this machine's device at once.

    Raises:
        ValueError: if not even one fits.
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
