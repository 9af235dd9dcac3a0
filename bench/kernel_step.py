"""The training step with each kernel in turn: what decides which are taken where none is asked for.

A kernel alone may be faster and the step slower: what torch.compile would have fused with its
neighbours it must then leave apart.
"""

import json
from pathlib import Path
from typing import Any

import torch
from kernel_timing import interleaved

import kernels
from fastlm.config import ModelConfig
from fastlm.model import TransformerLM, init_weights
from fastlm.ops import Ops, torch_ops
from fastlm.optim import AdamW

GPT2_SMALL = ModelConfig(
    vocab_size=50_304, context_length=512, n_layers=12, d_model=768, n_heads=12, d_ff=2048
)
TINY = ModelConfig(vocab_size=64, context_length=8, n_layers=1, d_model=16, n_heads=2)
MARGIN = 0.995  # of the time without: less gained than this is noise
IN_NO_STEP = {"relu2", "qk_norm_rope", "symmetric_product"}  # of this network with AdamW


def _step(config: ModelConfig, ops: Ops, batch_size: int, device: torch.device):
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = TransformerLM(config, ops=ops, compute_dtype=dtype)
    init_weights(model, 0)
    model.to(device)
    optimizer = AdamW(model.parameters(), 1e-4)
    loss = torch.compile(model.loss, fullgraph=True, dynamic=False)
    shape = (batch_size, config.context_length + 1)
    ids = torch.randint(0, config.vocab_size, shape, device=device)

    def step() -> None:
        loss(ids[:, :-1], ids[:, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def training_step_ms(device: torch.device, names: list[str]) -> dict[str, float]:
    """Median milliseconds of a step with no kernel ("none"), with each alone, and with "all"."""
    config, batch_size = (GPT2_SMALL, 64) if device.type == "cuda" else (TINY, 2)
    named = [name for name in names if name in kernels.OPS and name not in IN_NO_STEP]
    tables = {"none": torch_ops}
    tables |= {name: torch_ops._replace(**{name: kernels.OPS[name]}) for name in named}
    tables["all"] = torch_ops._replace(**{name: kernels.OPS[name] for name in named})
    found = {}
    for name, ops in tables.items():
        # Each beside the step without kernels: the card's clock changes while they run.
        calls = {"none": _step(config, torch_ops, batch_size, device)}
        calls["with"] = _step(config, ops, batch_size, device)
        times = interleaved(calls, device, seconds=2.0, max_rounds=40)
        ratio = times["with"].median_ms / times["none"].median_ms
        found.setdefault("none", times["none"].median_ms)
        found[name] = ratio * found["none"]
        torch.compiler.reset()
    return found


def winners(folder: Path) -> tuple[str, ...]:
    """Kernels that make the step of every record in the folder faster, by name."""
    steps: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text())
        if isinstance(record, dict) and record.get("training_step_ms"):
            steps.append(record["training_step_ms"])
    if not steps:
        return ()
    names = set(kernels.OPS).intersection(*steps)
    return tuple(sorted(n for n in names if all(s[n] < MARGIN * s["none"] for s in steps)))
