"""Predict a recipe's training step on a GPU from what can be counted; no kernel is timed.

    python bench/roofline.py leaderboard --chip H100
    python bench/roofline.py leaderboard --chip H200 --micro-batch 256 --triton-ops none

Products and attention are counted by formula, at an assumed share of the chip's peak; everything
else by the bytes that it reads and writes, at an assumed share of the memory's bandwidth. Bytes of
the kernels that torch.compile generates are Inductor's own estimates, taken from one compiled step:
this needs a CUDA build of PyTorch and a device. Without one they are left out, and the table says
so: the time is then a lower bound. Nothing is taken to overlap. Other flags are those of
fastlm.train.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from fastlm.accounting import count_parameters, forward_flops_by_part, training_flops_per_token  # noqa: E402
from fastlm.accounting.counts import parameters_by_part  # noqa: E402
from fastlm.config import ModelConfig, TrainConfig  # noqa: E402
from fastlm.devices.chips import CHIPS  # noqa: E402
from fastlm.files import disk, json_files  # noqa: E402
from fastlm.optim.muon import POLYNOMIALS  # noqa: E402

BANDWIDTH = {"A100": 2.04e12, "H100": 3.35e12, "H200": 4.8e12, "B200": 8.0e12}
"""bytes/s of the chips that can be asked for, from NVIDIA's datasheets (SXM boards)"""

SHARES = {
    "products": 0.75,
    "kernel-products": 0.65,
    "attention-forward": 0.28,
    "attention-backward": 0.20,
    "bandwidth": 0.90,
}
"""Assumed shares of the peaks: for the products of Triton kernels less than for cuBLAS's.
Attention's are of the pairs that a causal mask leaves."""

PASSES = {"adamw": 7, "muon": 12, "normuon": 12, "gradients": 3}
"""Times that a float32 number of each parameter is read or written. AdamW reads four tensors and
writes three; the others are estimates from their source."""

PARTS = {
    "weight and gradient casts": r"^triton_poi_fused__to_copy(_t)?(_view)?_\d+$",
    "loss": r"amax|log_softmax|logsumexp|nll_loss|scatter_add|tanh",
    "feed-forward": r"clamp\w*pow|silu",
    "query-key norm, rotation": r"stack|rsqrt",
    "norms, residual, scalars": r"rms_norm|select",
    "value embeddings": r"embedding",
    "gates": r"sigmoid",
    "other generated kernels": r"",
}
"""The part of a generated kernel, by the operations in its name: the first that fits"""


class Part(NamedTuple):
    """The work and time of a part of the step, all micro-batches together."""

    name: str
    flops: float
    n_bytes: float
    seconds: float


class Generated(NamedTuple):
    """The generated kernels of a step: how often each ran, and its bytes a launch."""

    launches: dict[str, int]
    gigabytes: dict[str, float]


class Prediction(NamedTuple):
    """A predicted step.

    Attributes:
        pointwise_gigabytes: read and written for each 65,536 tokens by all that is no product, no
            attention and no optimizer; None without generated kernels.
    """

    parts: list[Part]
    pointwise_gigabytes: float | None
    seconds: float
    tokens_per_second: float
    mfu: float


def predict(
    config: TrainConfig,
    chip: str,
    micro_batch: int,
    kernels: Sequence[str],
    generated: Generated | None,
    shares: dict[str, float],
) -> Prediction:
    """The step of a configuration on a chip.

    Args:
        micro_batch: windows at once.
        kernels: names of the operations that Triton kernels compute.
        generated: the kernels that torch.compile generated for it; None: they are not counted.
    """
    model, windows = config.model, config.batch_size
    peak, bandwidth = CHIPS[chip].bf16, shares["bandwidth"] * BANDWIDTH[chip]
    parts: list[Part] = []

    def compute(name: str, flops: float, share: str) -> None:
        parts.append(Part(name, flops, 0, flops / (shares[share] * peak)))

    def move(name: str, n_bytes: float) -> None:
        parts.append(Part(name, 0, n_bytes, n_bytes / bandwidth))

    flops = forward_flops_by_part(model, model.context_length)
    scores = flops.pop("attention: scores and values") * windows / 2  # causal
    products = 3 * sum(flops.values()) * windows
    in_kernels = 0.0
    if model.ffn == "relu2" and "relu2_ffn" in kernels:
        in_kernels = flops["feed-forward"] * windows  # the first product forward, one backward
    compute("products", products - in_kernels, "products")
    if in_kernels:
        compute("products of relu2_ffn", in_kernels, "kernel-products")
    compute("attention forward", scores, "attention-forward")
    compute("attention backward", 2.5 * scores, "attention-backward")
    pointwise = sum(of_kernels(model, windows, kernels).values())
    for name, n_bytes in of_kernels(model, windows, kernels).items():
        move(name, n_bytes)
    if generated is not None:
        of_parts: Counter[str] = Counter()
        for name, n in generated.launches.items():
            part = next(part for part, pattern in PARTS.items() if re.search(pattern, name))
            of_parts[part] += n * generated.gigabytes[name] * 1e9
        for name, n_bytes in of_parts.items():
            move(name, n_bytes)
        pointwise += sum(of_parts.values())
    n_parameters = count_parameters(model)
    matrices = _matrix_parameters(model) if config.optim.name in ("muon", "normuon") else 0
    if matrices:
        n_iterations = len(POLYNOMIALS[config.optim.orthogonalization])
        of_optimizer = _orthogonalization_flops(model, n_iterations)
        compute(f"products of {config.optim.name}", of_optimizer, "products")
        move(config.optim.name, PASSES[config.optim.name] * 4 * matrices)
    move("adamw", PASSES["adamw"] * 4 * (n_parameters - matrices))
    move("gradients' norm and checks", PASSES["gradients"] * 4 * n_parameters)
    move("gradients added up", (windows // micro_batch - 1) * 3 * 4 * n_parameters)
    parts.sort(key=lambda part: -part.seconds)
    seconds = sum(part.seconds for part in parts)
    n_tokens = windows * model.context_length
    rate = n_tokens / seconds
    mfu = rate * training_flops_per_token(model, model.context_length) / peak
    each = None if generated is None else pointwise / n_tokens * 65_536 / 1e9
    return Prediction(parts, each, seconds, rate, mfu)


def of_kernels(model: ModelConfig, windows: int, kernels: Sequence[str]) -> dict[str, float]:
    """Bytes that fastlm's own kernels read and write in a step beside the products' operands."""
    from kernels.cases import OPS

    found = {}
    if model.qk_norm and model.position == "rope" and "qkv_norm_rope" in kernels:
        shape = (windows, model.context_length, model.n_heads, model.d_head)
        found["qkv_norm_rope"] = model.n_layers * sum(OPS["qkv_norm_rope"].bytes_moved(shape, 2))
    return found


def _matrix_parameters(model: ModelConfig) -> int:
    of_parts = parameters_by_part(model)
    return sum(n for part, n in of_parts.items() if part in ("attention", "feed-forward"))


def _orthogonalization_flops(model: ModelConfig, n_iterations: int) -> float:
    """FLOPs to orthogonalize all matrices: X X^T, its square, and one product with X, each time."""
    d, f = model.d_model, model.ffn_width
    n_ffn = 3 if model.ffn == "swiglu" else 2
    m, n = min(d, f), max(d, f)
    each = 4 * 6 * d**3 + n_ffn * (4 * m * m * n + 2 * m**3)
    return n_iterations * model.n_layers * each


@contextmanager
def counted() -> Iterator[Generated]:
    """Count the launches of generated kernels, and take their bytes from Inductor."""
    from torch._inductor import config as inductor
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner

    found = Generated(Counter(), {})
    run = CachingAutotuner.run

    def noted(self: Any, *args: Any, **options: Any) -> Any:
        name = self.inductor_meta.get("kernel_name", "")
        if "kernel_num_gb" in self.inductor_meta:  # a kernel of our own has none
            found.launches[name] += 1
            found.gigabytes[name] = self.inductor_meta["kernel_num_gb"]
        return run(self, *args, **options)

    before = inductor.benchmark_kernel
    inductor.benchmark_kernel = True  # writes the estimate into the code
    CachingAutotuner.run = noted
    try:
        yield found
    finally:
        CachingAutotuner.run, inductor.benchmark_kernel = run, before


def take_step(config: TrainConfig) -> tuple[Generated, int, list[str]]:
    """Compile and take a step on the device: (generated kernels, micro-batch, our kernels)."""
    import itertools

    from kernel_step import random_data

    from fastlm.devices.hardware import configure_cuda
    from fastlm.train.assemble import set_up
    from fastlm.train.trainer import Trainer

    configure_cuda(bf16=True)
    with counted() as generated:
        setup = set_up(config)
        trainer = Trainer(config, random_data(config), setup)
        stream = itertools.repeat(next(trainer.stream()))
        trainer.train_step(stream, stage=0, progress=0.1)  # compiles, and tries ways to launch
        generated.launches.clear()
        trainer.train_step(stream, stage=0, progress=0.1)
    return generated, trainer.memory.micro_batch, setup.kernels


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"a share must lie in (0, 1]: got {text}")
    return share


def told(prediction: Prediction, heading: str) -> str:
    """The table."""
    lines = [heading, "", f"{'part':34} {'TFLOP':>8} {'GB':>8} {'ms':>8} {'share':>6}"]
    lines += [
        f"{part.name:34} {part.flops / 1e12:8.1f} {part.n_bytes / 1e9:8.1f} "
        f"{part.seconds * 1e3:8.1f} {part.seconds / prediction.seconds:6.1%}"
        for part in prediction.parts
    ]
    lines.append("")
    if prediction.pointwise_gigabytes is None:
        lines.append(
            "generated kernels are not counted, for want of a CUDA device: the time is a lower "
            "bound"
        )
    else:
        lines.append(
            f"{prediction.pointwise_gigabytes:.1f} GB for each 65,536 tokens, without products, "
            "attention and optimizers"
        )
    lines.append(
        f"predicted: {prediction.seconds * 1e3:.3g} ms a step, "
        f"{prediction.tokens_per_second:,.0f} tokens/s, MFU {prediction.mfu:.1%}"
    )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: count, predict, print."""
    parser = argparse.ArgumentParser(
        "python bench/roofline.py",
        description="Predict a training step from what can be counted. Other flags are train's.",
        allow_abbrev=False,
    )
    parser.add_argument("recipe", help="a recipe's name")
    parser.add_argument("--chip", choices=BANDWIDTH, default="H100")
    parser.add_argument("--json", type=Path, help="file for the prediction")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --json")
    for name, share in SHARES.items():
        parser.add_argument(f"--{name}", type=_share, default=share, help=f"of the peak; {share}")
    arguments, flags = parser.parse_known_args(argv)
    from fastlm.files.outputs import check_new_files
    from fastlm.ops import load_kernels, names_of_ops
    from fastlm.train.command import configuration

    words = ["--recipe", arguments.recipe, "--compile", "--bf16", "--max-steps", "100", *flags]
    try:
        config = configuration(words)
        if config.triton_ops not in ("auto", "none", "all"):
            names_of_ops(config.triton_ops, load_kernels().OPS)
        if arguments.json is not None:
            check_new_files({"--json": arguments.json}, replace=arguments.overwrite)
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    if torch.cuda.is_available():
        generated, micro_batch, kernels = take_step(config)
    else:
        given = config.micro_batch
        generated, micro_batch = None, config.batch_size if given == "auto" else given
        chosen = config.triton_ops
        names = {"auto": load_kernels().AUTO, "none": (), "all": tuple(load_kernels().OPS)}
        kernels = list(names[chosen] if chosen in names else names_of_ops(chosen, names["all"]))
    shares = {name: getattr(arguments, name.replace("-", "_")) for name in SHARES}
    prediction = predict(config, arguments.chip, micro_batch, kernels, generated, shares)
    assumed = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    heading = (
        f"{arguments.recipe} on {arguments.chip}, predicted, not measured: "
        f"{config.batch_size * config.model.context_length:,} tokens a step, {micro_batch} windows "
        f"at once, kernels {', '.join(kernels) or 'none'}\nassumed shares of the peaks: {assumed}"
    )
    print(told(prediction, heading))
    if arguments.json is not None:
        found = prediction._asdict() | {"parts": [part._asdict() for part in prediction.parts]}
        kept = {"predicted": True, "flags": [arguments.recipe, *flags], "shares": shares, **found}
        disk.write_file(arguments.json, json_files.to_json(kept), replace=arguments.overwrite)
    return 0


if __name__ == "__main__":
    sys.exit(main())
