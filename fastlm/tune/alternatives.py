"""The alternatives to a configuration on a machine, those first that gain most where they gain.

A dimension is a function: the present configuration -> the alternatives to it. It is asked again
after each change, so that a search in steps (micro-batch, threads) goes on in the direction of the
gain. Only what the user left open has alternatives: settings that say "auto", and, on a CPU,
compilation and dtype if no flag chooses them.
"""

import dataclasses
import os
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend

from fastlm.config import ModelConfig, TrainConfig
from fastlm.devices.hardware import available_cores, cpu_has_bf16
from fastlm.model import TransformerLM
from fastlm.ops import Ops, load_kernels, load_ops, reference_ops
from fastlm.optim.groups import build_optimizers


class Alternative(NamedTuple):
    """A change of the present configuration.

    Attributes:
        what: name for the table.
        key: the same for a change and for its undoing, of which one is tried.
        changes: fields of TrainConfig, with their other values.
    """

    what: str
    key: str
    changes: dict[str, Any]


Dimension = Callable[[TrainConfig], list[Alternative]]

_ORDER = (
    "linear_cross_entropy",
    "adamw",
    "qkv_norm_rope",
    "relu2_ffn",
    "swiglu",
    "add_rms_norm",
    "rms_norm",
    "rotate_pairs",
    "symmetric_product",
)
"""Triton operations, those first that save the most bytes of memory traffic in a step"""


def dimensions(
    asked: TrainConfig,
    device: torch.device,
    *,
    largest: Callable[[TrainConfig], int],
    kernels: Callable[[TrainConfig], list[str]],
    n_threads: int,
    attention: str = "",
    opened: Collection[str] = (),
) -> list[Dimension]:
    """The dimensions to search, in order.

    Args:
        asked: the configuration as the user gave it.
        largest: the micro-batch that "auto" stands for; 0 to try no others.
        kernels: names of the Triton operations of a configuration.
        n_threads: the CPU threads that "auto" stands for.
        attention: the kernel of attention that "auto" stands for; empty if it is not known.
        opened: switches that the search may turn on, since no flag does: compile, bf16, fp8.
    """
    found: list[Dimension] = []
    on_gpu = device.type == "cuda"
    tries_attention = on_gpu and asked.attention == "auto" and asked.triton_ops == "auto"
    if tries_attention:
        found.append(_attention(attention))
    # First the threads, whose number decides over what else is fast on a busy machine.
    if device.type == "cpu" and asked.threads == "auto" and "OMP_NUM_THREADS" not in os.environ:
        found.append(_threads(n_threads))
    if not on_gpu and "compile" in opened:
        found.append(_switch("compile"))
    if not on_gpu and "bf16" in opened and (device.type != "cpu" or cpu_has_bf16()):
        found.append(_switch("bf16"))
    if on_gpu and asked.triton_ops == "auto":
        found.append(_triton_ops(used_ops(asked), kernels))
    if tries_attention:
        found.append(_slower_attention(attention, kernels))
    if asked.micro_batch == "auto":
        found.append(_micro_batches(largest))
    if asked.compile_scope == "auto":
        found.append(_compile_scope)
    has_muon = asked.optim.name in ("muon", "normuon")
    if device.type == "cpu" and has_muon and asked.optimizer_dtype == "auto" and cpu_has_bf16():
        found.append(_optimizer_dtype)
    if "fp8" in opened:
        found.append(_switch("fp8"))
    return found


def _switch(name: str) -> Dimension:
    def switch(present: TrainConfig) -> list[Alternative]:
        return [] if getattr(present, name) else [Alternative(f"--{name}", name, {name: True})]

    return switch


def _attention(automatic: str) -> Dimension:
    def others(present: TrainConfig) -> list[Alternative]:
        names = [name for name in ("cudnn", "flash") if name != automatic]
        names += ["fa3"] if _can_run(present, attention="fa3") else []
        return [_attention_by(name) for name in names if name != present.attention]

    return others


def _slower_attention(automatic: str, kernels: Callable[[TrainConfig], list[str]]) -> Dimension:
    """Kernels that need more products or passes than the others, which may not run everywhere."""

    def others(present: TrainConfig) -> list[Alternative]:
        names = [name for name in ("efficient",) if name not in (automatic, present.attention)]
        found = [_attention_by(name) for name in names]
        on = kernels(present)
        if "attention" not in on and _triton_names():
            changes = {"attention": "auto", "triton_ops": _joined([*on, "attention"])}
            found.append(Alternative("attention Triton", "attention triton", changes))
        return found

    return others


def _attention_by(name: str) -> Alternative:
    return Alternative(f"attention {name}", f"attention {name}", {"attention": name})


def automatic_attention(config: TrainConfig, device: torch.device, dtype: torch.dtype) -> str:
    """The kernel that PyTorch chooses for the attention of a network; empty if it does not say."""
    shape = (1, config.model.n_heads, config.model.context_length, config.model.d_head)
    q, k, v = (torch.empty(shape, device=device, dtype=dtype, requires_grad=True) for _ in range(3))
    try:
        chosen = SDPBackend(torch._fused_sdp_choice(q, k, v, None, 0.0, True))
    except (RuntimeError, TypeError, ValueError, AttributeError):  # it is PyTorch's own affair
        return ""
    names = {
        SDPBackend.CUDNN_ATTENTION: "cudnn",
        SDPBackend.FLASH_ATTENTION: "flash",
        SDPBackend.EFFICIENT_ATTENTION: "efficient",
    }
    return names.get(chosen, "")


def _can_run(present: TrainConfig, *, attention: str) -> bool:
    try:
        load_ops("none", attention=attention)
    except ValueError:
        return False
    return present.bf16


def _triton_names() -> list[str]:
    """Names of all Triton operations, those first that may gain most; empty without Triton."""
    try:
        names = list(load_kernels().OPS)
    except ImportError:
        return []
    return sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


def _joined(names: Collection[str]) -> str:
    return ",".join(sorted(names)) or "none"


def _triton_ops(used: Collection[str], kernels: Callable[[TrainConfig], list[str]]) -> Dimension:
    def toggles(present: TrainConfig) -> list[Alternative]:
        on = kernels(present)
        found = []
        for name in _triton_names():
            if name in used and name != "attention":
                is_on = name in on
                new = [n for n in on if n != name] if is_on else [*on, name]
                what = f"{'without ' if is_on else ''}Triton {name}"
                found.append(Alternative(what, f"triton {name}", {"triton_ops": _joined(new)}))
        return found

    return toggles


def used_ops(config: TrainConfig) -> set[str]:
    """Names of the operations that a step of a configuration calls, found by a tiny one like it."""
    called: set[str] = set()

    def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            called.add(name)
            return function(*args, **kwargs)

        return call

    table = Ops(**{name: noting(name, f) for name, f in reference_ops._asdict().items()})
    n_heads = 2
    network: ModelConfig = dataclasses.replace(
        config.model,
        vocab_size=8,
        context_length=4,
        n_layers=2,
        d_model=4 * n_heads,
        n_heads=n_heads,
        d_ff=8,
        ngram_rows=min(8, config.model.ngram_rows),
        ngram_width="auto",
    )
    with torch.random.fork_rng(devices=[]):
        model = TransformerLM(network, ops=table)
        ids = torch.zeros(1, 4, dtype=torch.int64)
        model.loss(ids, ids).backward()
        for optimizer in build_optimizers(model, config.optim, table):
            optimizer.step()
    return called


def _micro_batches(largest: Callable[[TrainConfig], int]) -> Dimension:
    """Half and twice as many windows at once, of those that divide the batch and fit.

    The most that fit are the choice that the search began with.
    """

    def neighbours(present: TrainConfig) -> list[Alternative]:
        most = largest(dataclasses.replace(present, micro_batch="auto"))
        size = most if present.micro_batch == "auto" else present.micro_batch
        found = []
        for other in (size // 2, 2 * size):
            if 1 <= other < most and all(n % other == 0 for n in present.batch_sizes):
                what = f"micro-batch {other}"
                found.append(Alternative(what, what, {"micro_batch": other}))
        return found

    return neighbours


def _threads(automatic: int) -> Dimension:
    """Half and twice the threads, and one less: a core for the system, or for other work."""

    def neighbours(present: TrainConfig) -> list[Alternative]:
        n = automatic if present.threads == "auto" else present.threads
        found = []
        for other in dict.fromkeys((n // 2, 2 * n, n - 1)):
            if 1 <= other <= available_cores() and other not in (n, automatic):
                what = f"{other} thread{'' if other == 1 else 's'}"
                found.append(Alternative(what, what, {"threads": other}))
        return found

    return neighbours


def _compile_scope(present: TrainConfig) -> list[Alternative]:
    if not present.compile:
        return []
    other = "step" if present.compile_scope == "block" else "block"
    return [Alternative(f"compile scope {other}", "compile scope", {"compile_scope": other})]


def _optimizer_dtype(present: TrainConfig) -> list[Alternative]:
    if present.optimizer_dtype == "bfloat16":
        return []
    return [Alternative("optimizer bfloat16", "optimizer", {"optimizer_dtype": "bfloat16"})]
