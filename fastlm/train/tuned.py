"""Choices that fastlm.tune measured on this machine: their file, and how a run takes them over.

A file holds for one device, network, batch and optimizer, for the versions it was measured with,
and for what a user decides: compilation, dtype and fp8. Any other file is told and left out. Only
settings that say "auto" take a choice, so that a flag always wins; the run's configuration then
holds the values themselves, and a resumed run goes on with them.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from fastlm import __version__, cli
from fastlm.config import TrainConfig
from fastlm.config.dicts import from_dict
from fastlm.config.dotted import leaves
from fastlm.devices.hardware import identity
from fastlm.files import disk, json_files
from fastlm.ops import load_kernels
from fastlm.train.assemble import Setup, set_up
from fastlm.train.micro_batch import plan_memory

FORMAT = 1

AUTOMATIC, NONE = "auto", "none"
"""Values of --tuned besides the path of a file"""

FOLDER_VARIABLE = "FASTLM_TUNED_DIR"
"""Environment variable with a folder of files, in place of the one in the user's cache folder"""

_WITH_SEVERAL = ("triton_ops", "attention", "optimizer_dtype")
"""Choices that hold for several processes too: the others were measured with one."""


@dataclasses.dataclass(frozen=True)
class Choices:
    """The settings of a run that can be left to fastlm.tune; "auto" where it changes nothing."""

    triton_ops: str = "auto"
    attention: Literal["auto", "cudnn", "flash", "efficient", "fa3"] = "auto"
    compile_scope: Literal["auto", "step", "block"] = "auto"
    micro_batch: int | Literal["auto"] = "auto"
    threads: int | Literal["auto"] = "auto"
    optimizer_dtype: Literal["auto", "float32", "bfloat16"] = "auto"

    @property
    def made(self) -> dict[str, Any]:
        """The settings that are not "auto", by their names."""
        return {name: value for name, value in vars(self).items() if value != "auto"}


class Conditions(NamedTuple):
    """The conditions that a measurement holds for, as JSON.

    Attributes:
        work: device, network, batch and optimizer; another file holds those of another work.
        versions: of torch, triton and fastlm, and on a GPU the hash of its kernels.
        how: the user's decisions: compilation, dtype, fp8.
    """

    work: dict[str, Any]
    versions: dict[str, str]
    how: dict[str, Any]


class Tuned(NamedTuple):
    """The content of a file of fastlm.tune.

    Attributes:
        measured: figures for people: tokens per second, and what was tried.
    """

    conditions: Conditions
    choices: Choices
    measured: dict[str, Any]


class Taken(NamedTuple):
    """A configuration with the choices of a file, or without.

    Attributes:
        note: line for the user; empty if there is nothing to say.
        path: the file, if choices of it are in the configuration, else empty.
    """

    config: TrainConfig
    note: str = ""
    path: str = ""


def conditions_of(
    config: TrainConfig, device: torch.device, *, dtype: torch.dtype, compiles: bool
) -> Conditions:
    """The conditions of a run.

    Args:
        config: with the vocabulary size of the data.
        dtype, compiles: as in Setup.
    """
    work = {
        "device": identity(device),
        "network": dataclasses.asdict(config.model),
        "batch": list(config.batch_sizes),
        "optimizer": config.optim.name,
        "checkpoint_activations": config.checkpoint_activations,
        "deterministic": config.deterministic,
    }
    try:
        triton = metadata.version("triton")
    except metadata.PackageNotFoundError:
        triton = "absent"
    versions = {"torch": torch.__version__, "triton": triton, "fastlm": __version__}
    if device.type == "cuda":
        versions["kernels"] = _digest_of_kernels()
    how = {"compile": compiles, "dtype": str(dtype).removeprefix("torch."), "fp8": config.fp8}
    as_json: list[dict[str, Any]] = json.loads(json.dumps([work, versions, how]))
    return Conditions(*as_json)


def _digest_of_kernels() -> str:
    """Hash of the Triton kernels' files, which change more often than the version of fastlm."""
    try:
        folder = Path(load_kernels().__path__[0])
    except ImportError:
        return "absent"
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def default_file(conditions: Conditions) -> Path | None:
    """Where the choices for a work lie by default; None if the user has no folder for caches.

    $FASTLM_TUNED_DIR/DEVICE-HASH.json, or in $XDG_CACHE_HOME/fastlm/tuned where that is not set,
    with ~/.cache where neither is.
    """
    folder = os.environ.get(FOLDER_VARIABLE) or _folder_in_cache()
    if folder is None:
        return None
    digest = hashlib.sha256(json.dumps(conditions.work, sort_keys=True).encode()).hexdigest()
    name = re.sub(r"[^a-z0-9]+", "-", str(conditions.work["device"]["name"]).lower()).strip("-")
    return Path(folder) / f"{name[:40]}-{digest[:16]}.json"


def _folder_in_cache() -> str | None:
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):  # by its specification a relative path is ignored
        cache = os.path.expanduser(os.path.join("~", ".cache"))
    return os.path.join(cache, "fastlm", "tuned") if os.path.isabs(cache) else None


def write_tuned(path: Path, tuned: Tuned, *, replace: bool) -> None:
    """Write a file whole; its folder is made.

    Raises:
        OSError: if it cannot be written, or exists and replace is not given.
    """
    values = {
        "format": FORMAT,
        **tuned.conditions._asdict(),
        "choices": tuned.choices.made,
        "measured": tuned.measured,
    }
    disk.write_file(path, json_files.to_json(values), replace=replace)


def read_tuned(path: Path) -> Tuned:
    """Read a file of fastlm.tune.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no such file, or damaged.
    """
    values = json_files.read_object(path)
    if values.get("format") != FORMAT:
        raise ValueError(f"{path} has format {values.get('format')!r}, expected {FORMAT}")
    parts = [values.get(name) for name in ("work", "versions", "how", "measured", "choices")]
    if not all(isinstance(part, dict) for part in parts):
        raise ValueError(f"{path} is no file of fastlm.tune")
    work, versions, how, measured, choices = parts
    try:
        chosen = from_dict(Choices, choices)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return Tuned(Conditions(work, versions, how), chosen, measured)  # type: ignore[arg-type]


def with_choices(config: TrainConfig, choices: Choices, *, n_ranks: int = 1) -> TrainConfig:
    """The configuration with the choices for those of its settings that say "auto".

    Raises:
        ValueError: if it refuses one.
    """
    taken = {
        name: value
        for name, value in choices.made.items()
        if getattr(config, name) == "auto" and (n_ranks == 1 or name in _WITH_SEVERAL)
    }
    if config.triton_ops != "auto":
        taken.pop("attention", None)  # the flag chooses the kernel of attention too
    if "OMP_NUM_THREADS" in os.environ:
        taken.pop("threads", None)
    return dataclasses.replace(config, **taken)


def take_tuned(
    config: TrainConfig, setup: Setup, where: str = AUTOMATIC, *, n_ranks: int = 1
) -> Taken:
    """The configuration of a run with what was measured for it, if anything was.

    Args:
        config: with the vocabulary size of the data.
        setup: set_up(config).
        where: AUTOMATIC for the user's cache folder, NONE, or a file.
        n_ranks: number of data parallel processes; with several, only how operations are computed
            is taken over, and nothing under FSDP.
    """
    if where == NONE:
        return Taken(config)
    dtype, compiles = setup.compute_dtype, setup.compiles
    now = conditions_of(config, setup.device, dtype=dtype, compiles=compiles)
    path = default_file(now) if where == AUTOMATIC else Path(where)
    if path is None or (where == AUTOMATIC and not os.path.lexists(path)):
        return Taken(config)
    try:
        tuned = read_tuned(path)
        if where == AUTOMATIC and not tuned.choices.made and tuned.conditions == now:
            return Taken(config)
        if other := _difference(tuned.conditions, now):
            raise ValueError(f"{path} was measured with {other}")
        if n_ranks > 1 and config.parallel == "fsdp":
            raise ValueError(f"{path} was measured without FSDP")
        chosen = with_choices(config, tuned.choices, n_ranks=n_ranks)
        chosen = _with_room(chosen, config, set_up(chosen))
    except (OSError, ValueError) as error:
        return Taken(config, f"{_one_line(error)}: its choices are left out")
    flags = flags_of(changed(config, chosen))
    if not flags:
        return Taken(config)
    note = f"{cli.pasted(*flags)}, as fastlm.tune measured here ({path}; --tuned none: without)"
    return Taken(chosen, note, str(path))


def _with_room(chosen: TrainConfig, config: TrainConfig, setup: Setup) -> TrainConfig:
    """Keep a chosen micro-batch only if that many windows fit the memory that is free now."""
    if chosen.micro_batch == config.micro_batch:
        return chosen
    automatic = dataclasses.replace(chosen, micro_batch="auto")
    # A ValueError says that not even one window fits, which the run tells.
    fitting = plan_memory(
        automatic,
        setup.device,
        bf16=setup.compute_dtype == torch.bfloat16,
        kernels=setup.kernels,
    ).micro_batch
    return automatic if int(chosen.micro_batch) > fitting else chosen


def _difference(then: Conditions, now: Conditions) -> str:
    """Name what differs first: its value then, and now; empty if nothing does."""
    for before, after in zip(then, now, strict=True):
        if before == after:
            continue
        had, has = leaves(before), leaves(after)
        differing = (n for n in [*has, *had] if had.get(n, leaves) != has.get(n, leaves))
        name = next(differing, "")
        if not name:  # an empty object, or a name with a point in it
            return "conditions that fastlm.tune does not write"
        return f"{name} {_shown(had.get(name))}, and this is {_shown(has.get(name))}"
    return ""


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def changed(before: TrainConfig, after: TrainConfig) -> dict[str, Any]:
    """The choices in which a configuration differs from an earlier one."""
    return {
        name: getattr(after, name)
        for name in vars(Choices())
        if getattr(after, name) != getattr(before, name)
    }


def flags_of(choices: Mapping[str, Any]) -> list[str]:
    """Choices as flags: {"micro_batch": 8} -> ["--micro-batch", "8"]."""
    return [
        word
        for name, value in choices.items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    return " ".join(str(error).split())
