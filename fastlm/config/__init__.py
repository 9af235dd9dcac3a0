"""Configuration as frozen dataclasses: ModelConfig for the network, the others for its training.

This package imports no torch. Every field is plain data, so a configuration goes to JSON and back
unchanged, and the command line can override any field as --section.field.
"""

import bisect
import functools
import itertools
import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from fastlm.cli import named_path
from fastlm.config import float32
from fastlm.config.durations import Duration

RATES = ("lr", "muon_lr", "ngram_lr", "embedding_lr", "value_embedding_lr", "scalar_lr", "x0_lr")
"""Fields of OptimConfig that are learning rates"""

VALUE_GATE_INPUTS = 32
"""Number of input features that the value-embedding gate reads."""


PathText = Annotated[
    str,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: named_path(words[0]),
        is_instance=lambda value: isinstance(value, str),
        str_from_instance=lambda value: [value],
    ),
]
"""A path as text; only its default is empty."""


MOST_INTEGER = 2**63 - 1
"""Greatest integer in a configuration, which is the greatest index of a tensor"""


MOST_LAYERS = 10_000
"""Greatest number of layers: formulas and constructors take time for each"""


MOST_THREADS = 4096
"""Greatest number of threads: each has a stack"""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _require_bounded(config: object) -> None:
    """Refuse integers too large for a tensor or a float; the seed has bounds of its own."""
    for name, value in vars(config).items():
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and abs(number) > MOST_INTEGER and name != "seed":
                size = number.bit_length()
                raise ValueError(f"{name} must be at most 2^63 - 1: got one of {size} bits")


@dataclass(frozen=True)
class ModelConfig:
    """The network: everything needed to rebuild it and load its weights, nothing else."""

    vocab_size: int = 4096
    """vocabulary size; training takes it from the prepared data"""
    context_length: int = 256
    """tokens per training window"""
    n_layers: int = 4
    d_model: int = 256
    n_heads: int = 4
    d_ff: int | Literal["auto"] = "auto"
    """width of the feed-forward layer; auto: 8/3 d_model rounded to a multiple of 64 (swiglu), else
    4 d_model"""
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    tie_weights: bool = True
    """tied embeddings: the output projection is the embedding matrix"""
    norm: Literal["pre", "post", "none"] = "pre"
    position: Literal["rope", "none"] = "rope"
    ffn: Literal["swiglu", "silu", "relu2"] = "swiglu"
    norm_gain: bool = True
    """norms have learned gains"""
    embedding_norm: bool = False
    """apply RMSNorm, without a gain, to the embedding"""
    qk_norm: bool = False
    """apply RMSNorm to the queries and keys of each head, before RoPE"""
    zero_init: bool = False
    """the output matrix of each attention and feed-forward layer starts at zero"""
    residual_scalars: bool = False
    """each layer multiplies its input by a learned scalar, initially 1.15 (first) to 1.05 (last)"""
    x0_scalars: bool = False
    """each layer adds the embedding to its input, times a learned scalar, initially 0.20 (first) to
    0.05 (last)"""
    value_embeddings: bool = False
    """every other layer, including the last, adds a gated embedding of the tokens to the values of
    its attention"""
    attention_gate: bool = False
    """multiply each head's output by a gate computed from the layer's input"""
    unet_skip: bool = False
    """a late layer adds an early one's output to its input, times a learned scalar, initially 0"""
    backout: bool = False
    """subtract the middle layer's output at the end, times a learned scalar, initially 0"""
    logit_softcap: float | None = None
    """limit logits to this magnitude: softcap * tanh(logits / softcap)"""
    ngram_rows: int = 0
    """rows of each of two hashed tables, for the last two and the last three tokens, that are added
    to the embedding; 0: no n-gram tables"""
    ngram_width: int | Literal["auto"] = "auto"
    """width of the n-gram rows, projected to d_model if it differs; auto: d_model"""

    def __post_init__(self) -> None:
        _require_bounded(self)
        for name in ("vocab_size", "context_length", "n_layers", "d_model", "n_heads"):
            value = getattr(self, name)
            _require(value >= 1, f"{name} must be at least 1: got {value}")
        _require(
            self.n_layers <= MOST_LAYERS,
            f"n_layers must be at most {MOST_LAYERS:,}: got {self.n_layers}",
        )
        _require(
            self.d_model % self.n_heads == 0,
            f"n_heads must divide d_model: got n_heads={self.n_heads}, d_model={self.d_model}",
        )
        _require(
            self.position != "rope" or self.d_head % 2 == 0,
            f"RoPE rotates pairs, so d_model / n_heads must be even: got d_model={self.d_model}, "
            f"n_heads={self.n_heads}, d_head={self.d_head}",
        )
        _require(
            self.d_ff == "auto" or self.d_ff >= 1,
            f"d_ff must be at least 1 or auto: got {self.d_ff}",
        )
        _require(self.rope_theta > 0, f"rope_theta must be above 0: got {self.rope_theta}")
        _require(
            0 < self.norm_eps < math.inf,
            f"norm_eps must be above 0 and finite: got {self.norm_eps}",
        )
        _require(
            self.logit_softcap is None or 0 < self.logit_softcap < math.inf,
            f"logit_softcap must be above 0 and finite: got {self.logit_softcap}",
        )
        float32.check_held("norm_eps", self.norm_eps)
        if self.logit_softcap is not None:
            float32.check_held("logit_softcap", self.logit_softcap)
        _require(self.ngram_rows >= 0, f"ngram_rows must be at least 0: got {self.ngram_rows}")
        _require(
            self.ngram_width == "auto" or self.ngram_width >= 1,
            f"ngram_width must be at least 1 or auto: got {self.ngram_width}",
        )

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads

    @property
    def ffn_width(self) -> int:
        """d_ff, with "auto" resolved."""
        if self.d_ff != "auto":
            return self.d_ff
        if self.ffn != "swiglu":
            return 4 * self.d_model
        return max(64, round(self.d_model * 8 / 3 / 64) * 64)

    @property
    def ngram_row_width(self) -> int:
        """ngram_width, with "auto" resolved."""
        return self.d_model if self.ngram_width == "auto" else self.ngram_width

    def has_value_embedding(self, layer: int) -> bool:
        """Whether a layer, counted from 0, adds a value embedding."""
        return self.value_embeddings and (self.n_layers - 1 - layer) % 2 == 0


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer, its schedule and clipping."""

    name: Literal["adamw", "muon", "normuon", "sgd", "adagrad"] = "adamw"
    """muon, normuon: that optimizer for the block matrices, AdamW for all other parameters"""
    lr: float = 3e-3
    """peak learning rate (under muon, of the AdamW part); for a batch n times as large, multiply
    the learning rates of all groups by about sqrt(n)"""
    muon_lr: float = 0.02
    """peak learning rate of the block matrices under muon and normuon"""
    orthogonalization: Literal["newton-schulz", "polar-express"] = "newton-schulz"
    """iteration of muon and normuon; newton-schulz: one polynomial five times; polar-express: five
    optimal polynomials"""
    embedding_lr: float | None = None
    """peak learning rate of the token embedding, unless it is tied to the head; none: lr"""
    value_embedding_lr: float | None = None
    """peak learning rate of the value embeddings; none: lr"""
    scalar_lr: float | None = None
    """peak learning rate of the scalars of residual, skip and backout connections; none: lr"""
    ngram_lr: float = 0.05
    """peak learning rate of the n-gram tables, which use row-wise AdaGrad"""
    tie_until: float = 0.0
    """share of the run, at its start, in which the separate matrices of embedding and head are kept
    equal"""
    x0_lr: float | None = None
    """peak learning rate of x0_scalars; none: lr"""
    betas: tuple[float, float] = (0.9, 0.95)
    table_betas: tuple[float, float] | None = None
    """betas of all embeddings, except one that is tied to the head; none: betas"""
    x0_betas: tuple[float, float] | None = None
    """betas of x0_scalars; none: betas"""
    eps: float = 1e-8
    weight_decay: float = 0.1
    """decoupled weight decay of block matrices, n-gram projections and an untied head; norms and
    embeddings have none"""
    weight_decay_schedule: Literal["constant", "linear"] = "constant"
    """linear: weight decay falls to 0 over the run"""
    cautious_weight_decay: bool = False
    """under muon and normuon, decay only those entries of block matrices that the update shrinks"""
    momentum: float = 0.95
    """momentum of muon, normuon and sgd"""
    momentum_start: float | None = None
    """momentum before the first step; none: no warm-up of the momentum"""
    momentum_warmup_steps: int = 0
    """steps in which the momentum rises from momentum_start"""
    momentum_end: float | None = None
    """momentum at the end, reached over the last decay_fraction of the run; none: no change"""
    max_grad_norm: float = 1.0
    """clip gradients to this global l2 norm; inf: no clipping"""
    schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    warmup_fraction: float = 0.05
    """share of the run in which the learning rate warms up from 0"""
    warmup_steps: int | None = None
    """steps of the warm-up, in place of warmup_fraction; none: use warmup_fraction"""
    decay_fraction: float = 0.3
    """share of the run, at its end, in which wsd decays"""
    final_lr_ratio: float = 0.1
    """ratio of the final to the peak learning rate"""
    average_tail: float = 0.0
    """share of the run, at its end, whose weights are averaged for the final model; 0: none"""
    average_every: int = 1
    """steps between two sets of weights in the average"""

    def __post_init__(self) -> None:
        _require_bounded(self)
        for name in (*RATES, "eps", "max_grad_norm"):
            value = getattr(self, name)
            if value is None:
                continue
            _require(value > 0, f"optim.{name} must be above 0: got {value}")
            if name == "max_grad_norm" and value == math.inf:
                continue
            _require(math.isfinite(value), f"optim.{name} must be finite: got {value}")
            check = float32.check_rate if name in RATES else float32.check_held
            check(f"optim.{name}", value)
        for name in (
            "warmup_fraction",
            "decay_fraction",
            "final_lr_ratio",
            "average_tail",
            "tie_until",
        ):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"optim.{name} must lie in [0, 1]: got {value}")
        share = self.warmup_fraction if self.warmup_steps is None else 0.0
        _require(
            share + self.decay_fraction <= 1 or self.schedule != "wsd",
            "optim.warmup_fraction and optim.decay_fraction must not exceed 1 together: got "
            f"{self.warmup_fraction} + {self.decay_fraction}",
        )
        momenta = (self.momentum, self.momentum_start, self.momentum_end)
        betas = (*self.betas, *(self.table_betas or ()), *(self.x0_betas or ()))
        _require(
            all(0 <= value < 1 for value in (*betas, *momenta) if value is not None),
            f"betas and momentum must lie in [0, 1): got {betas}, {momenta}",
        )
        _require(
            all(float32.rounded(value) < 1 for value in (*betas, *momenta) if value is not None),
            "betas and momentum must be below 1 in float32, at most 0.99999994: got "
            f"{betas}, {momenta}",
        )
        _require(
            self.weight_decay >= 0, f"optim.weight_decay must be >= 0: got {self.weight_decay}"
        )
        if self.weight_decay > 0:
            float32.check_held("optim.weight_decay", self.weight_decay)
        for name in ("warmup_steps", "momentum_warmup_steps"):
            value = getattr(self, name)
            _require(value is None or value >= 0, f"optim.{name} must be >= 0: got {value}")
        _require(
            self.momentum_start is None or self.momentum_warmup_steps >= 1,
            f"optim.momentum_start={self.momentum_start} needs optim.momentum_warmup_steps, the "
            "number of steps in which the momentum rises from it",
        )
        _require(
            self.average_every >= 1,
            f"optim.average_every must be at least 1: got {self.average_every}",
        )
        _require(
            not self.cautious_weight_decay or self.name in ("muon", "normuon"),
            f"optim.cautious_weight_decay needs optim.name muon or normuon: got {self.name}",
        )


@dataclass(frozen=True)
class DataConfig:
    """The prepared data, and how training windows are sampled from it."""

    path: Annotated[PathText, tyro.conf.arg(name="data", prefix_name=False, metavar="DIR")] = ""
    """folder made by `fastlm.data prepare`; empty: generated stories are prepared and used"""
    sampling: Literal["shuffled", "random"] = "shuffled"
    """shuffled: every token once per epoch; random: uniform start positions, with replacement"""
    vocab_size: int = 4096
    """vocabulary size of the tokenizer that is trained on generated stories without --data"""

    def __post_init__(self) -> None:
        _require_bounded(self)


@dataclass(frozen=True)
class TrainConfig:
    """A training run. The first budget reached ends it; at least one budget is needed."""

    recipe: str = "custom"
    """named configuration to start from; the other flags override its fields"""
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    data: DataConfig = field(default_factory=DataConfig)
    batch_size: int = 16
    """windows per optimizer step; the learning rates are meant for this batch size"""
    batch_ramp: tuple[int, ...] = ()
    """windows per step in each stage of a batch ramp, such as 256 512 768; stages are equal shares
    of the run; empty: batch_size throughout"""
    batch_ramp_lr: tuple[float, ...] = ()
    """factor of all learning rates in each stage; empty: the square root of its windows over
    batch_size"""
    micro_batch: int | Literal["auto"] = "auto"
    """windows per forward and backward pass; gradients are accumulated over a step's micro-batches.
    auto: the largest micro-batch that fits in memory"""
    memory: float | Literal["auto"] = "auto"
    """GiB of device memory that micro_batch auto plans for, such as 8, 12 or 24, at most the free
    memory; if nothing fits, activations are checkpointed. auto: all free memory, and activation
    checkpointing only if asked for"""
    max_steps: int | None = None
    max_tokens: int | None = None
    time_budget: Duration = None
    """wall-clock time from process start to the last validation; making stories does not count"""
    fix_steps: bool = False
    """let the schedule follow steps: a probe before step 1 sets max_steps to as many as fit in the
    time budget, and the clock only ends a run that turns out slower"""
    eval_every: int = 200
    """steps between validations"""
    eval_tokens: int = 65_536
    """tokens per validation during training; the last validation covers the whole file"""
    checkpoint_every: int = 1000
    """steps between checkpoints; one is always written at the end"""
    checkpoint_minutes: float | None = 10.0
    """also write a checkpoint when the last one would be older than so many minutes; none: only by
    steps"""
    checkpoint_keep: int = 2
    """number of newest checkpoints to keep"""
    max_skipped_steps: int = 0
    """skip at most this many steps whose loss or gradients are not finite; one more ends the run"""
    log_every: int = 10
    """steps between log rows"""
    logger: Literal["none", "tensorboard", "wandb"] = "none"
    """also send log rows to this logger, whose package must be installed"""
    init_from: PathText = ""
    """run, or checkpoint of a run, with the initial weights; its network replaces the recipe's;
    empty: initialise weights from the seed"""
    seed: int = 0
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """data parallel strategy of the processes that torchrun starts. ddp: each holds the whole
    model; fsdp: each holds a shard of it; auto: ddp"""
    compile: bool = False
    """torch.compile the training step"""
    compile_scope: Literal["auto", "step", "block"] = "auto"
    """unit of compilation: the whole step, or one block reused for all layers, which starts sooner
    and runs a little slower; auto: block with several processes, which then send
    gradients during the backward pass; otherwise step, unless fastlm.tune found block to be
    faster"""
    checkpoint_activations: bool = False
    """activation checkpointing: blocks recompute their activations in the backward pass, which
    takes less memory and more time"""
    bf16: bool = False
    """compute in bfloat16; weights stay float32"""
    fp8: bool = False
    """compute the blocks' matrix products in float8, on a GPU of compute capability 8.9 or newer"""
    deterministic: bool = False
    """use deterministic algorithms, at some cost in speed"""
    triton_ops: str = "auto"
    """Triton kernels to use: auto, none, all, or comma-separated names"""
    attention: Literal["auto", "cudnn", "flash", "efficient", "fa3"] = "auto"
    """cudnn, flash, efficient: that one of PyTorch's attention kernels, on a GPU; fa3:
    FlashAttention-3, which must be installed, on a Hopper GPU with bf16; auto: the kernel that
    triton_ops chooses, else the one that PyTorch chooses"""
    optimizer_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """dtype of the matrix products of muon and normuon; auto: bfloat16 on a GPU, else float32"""
    threads: int | Literal["auto"] = "auto"
    """CPU threads of an operation; auto: PyTorch's number, usually one for each core"""

    def __post_init__(self) -> None:
        _require_bounded(self)
        _require(self.batch_size >= 1, f"batch_size must be at least 1: got {self.batch_size}")
        _require(
            -(2**63) <= self.seed < 2**64,
            f"seed must be a number of 64 bits, from 0 to 2^64 - 1: got {self.seed}",
        )
        _require(
            not self.init_from or self.optim.tie_until == 0,
            f"optim.tie_until={self.optim.tie_until} would overwrite the head of init_from with "
            "its embedding: give --optim.tie-until 0",
        )
        _require(
            all(a < b for a, b in itertools.pairwise((0, *self.batch_ramp))),
            f"batch_ramp must rise, from at least 1: got {self.batch_ramp}",
        )
        _require(
            len(self.batch_ramp_lr) in (0, len(self.batch_ramp)),
            "batch_ramp_lr must have a number for each of batch_ramp, or none: got "
            f"{self.batch_ramp_lr} for {self.batch_ramp}",
        )
        _require(
            all(0 < value < math.inf for value in self.batch_ramp_lr),
            f"batch_ramp_lr must be above 0 and finite: got {self.batch_ramp_lr}",
        )
        if self.batch_ramp:
            factor = max(self.lr_factors)
            for name in RATES:
                rate = getattr(self.optim, name)
                if rate is not None:
                    float32.check_rate(f"optim.{name} times {factor:g} of the ramp", rate * factor)
        sizes = f"batch_ramp={self.batch_ramp}" if self.batch_ramp else ""
        _require(
            self.micro_batch == "auto"
            or (self.micro_batch >= 1 and all(n % self.micro_batch == 0 for n in self.batch_sizes)),
            f"micro_batch must divide {'all of batch_ramp' if sizes else 'batch_size'}: got "
            f"micro_batch={self.micro_batch}, {sizes or f'batch_size={self.batch_size}'}",
        )
        _require(
            self.memory == "auto" or self.memory > 0,
            f"memory must be auto or a number of GiB above 0: got {self.memory}",
        )
        _require(
            self.threads == "auto" or 1 <= self.threads <= MOST_THREADS,
            f"threads must be auto or lie in [1, {MOST_THREADS:,}]: got {self.threads}",
        )
        counts = ("eval_every", "eval_tokens", "checkpoint_every", "checkpoint_keep", "log_every")
        for name in counts:
            value = getattr(self, name)
            _require(value >= 1, f"{name} must be at least 1: got {value}")
        _require(
            self.checkpoint_minutes is None or 0 < self.checkpoint_minutes < math.inf,
            "checkpoint_minutes must be a number of minutes above 0, or none: got "
            f"{self.checkpoint_minutes}",
        )
        _require(
            self.max_skipped_steps >= 0,
            f"max_skipped_steps must be at least 0: got {self.max_skipped_steps}",
        )
        for name in ("max_steps", "max_tokens", "time_budget"):
            value = getattr(self, name)
            _require(value is None or value > 0, f"{name} must be above 0: got {value}")
        _require(
            self.optim.tie_until == 0 or not self.model.tie_weights,
            f"optim.tie_until={self.optim.tie_until} holds two matrices equal, but the model has "
            "one: give --model.no-tie-weights",
        )
        _require(
            any(v is not None for v in (self.max_steps, self.max_tokens, self.time_budget)),
            "a run needs an end: give --max-steps, --max-tokens or --time-budget",
        )
        _require(
            not self.fix_steps or self.time_budget is not None,
            "fix_steps finds how many steps a time budget holds: give --time-budget, or turn it "
            "off with --no-fix-steps",
        )

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Windows per step in each stage of the batch ramp; stages are equal shares of the run."""
        return self.batch_ramp or (self.batch_size,)

    @property
    def lr_factors(self) -> tuple[float, ...]:
        """Factor of all learning rates in each stage of the batch ramp."""
        return self.batch_ramp_lr or tuple(
            math.sqrt(size / self.batch_size) for size in self.batch_sizes
        )

    def stage(self, progress: float) -> int:
        """Index of the stage of a step, from the share of the run that is done before it."""
        n_stages = len(self.batch_sizes)
        return sum(progress >= i / n_stages for i in range(1, n_stages))

    def steps_in_stages(self, n_steps: int) -> tuple[int, ...]:
        """Number of steps in each stage of a run of n_steps."""
        n_stages = len(self.batch_sizes)
        # Stage i starts at the first step that has at least i / n_stages of the steps before it.
        edges = [-(-i * n_steps // n_stages) for i in range(n_stages + 1)]
        return tuple(b - a for a, b in itertools.pairwise(edges))

    def tokens_in(self, n_steps: int) -> int:
        """Number of tokens that a run of n_steps trains on."""
        stages = zip(self.batch_sizes, self.steps_in_stages(n_steps), strict=True)
        return self.model.context_length * sum(size * n for size, n in stages)

    @functools.cached_property
    def total_steps(self) -> int | None:
        """Steps that the step and token budgets allow; None if only the clock ends the run."""
        limits = []
        if self.max_steps is not None:
            limits.append(self.max_steps)
        if self.max_tokens is not None:
            # Bisection works: one more step always adds tokens, although it shifts the stages.
            most = self.max_tokens // (self.batch_sizes[0] * self.model.context_length)
            fitting = bisect.bisect_right(range(most + 1), self.max_tokens, key=self.tokens_in) - 1
            limits.append(max(1, fitting))
        return min(limits) if limits else None
