"""What the network is (ModelConfig) and how it is trained (the rest), as frozen dataclasses.

Imports neither torch nor fastlm. Every field is plain data, so a configuration goes to
JSON and back unchanged, and the command line can override any of them as --section.field.
"""

import bisect
import functools
import itertools
import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from fastlm.config.durations import Duration

VALUE_GATE_INPUTS = 32
"""numbers of what a layer reads that the gate of its value embedding sees"""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class ModelConfig:
    """The network: everything needed to rebuild it and load its weights, nothing else."""

    vocab_size: int = 4096
    """entries of the vocabulary (training takes it from the prepared data)"""
    context_length: int = 256
    """tokens a training window holds"""
    n_layers: int = 4
    d_model: int = 256
    n_heads: int = 4
    d_ff: int | Literal["auto"] = "auto"
    """width of the feed-forward part; auto: 8/3 d_model rounded to 64 (swiglu), else 4 d_model"""
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    tie_weights: bool = True
    """the output projection is the embedding matrix itself"""
    norm: Literal["pre", "post", "none"] = "pre"
    position: Literal["rope", "none"] = "rope"
    ffn: Literal["swiglu", "silu", "relu2"] = "swiglu"
    norm_gain: bool = True
    """norms have learned gains"""
    embedding_norm: bool = False
    """a norm without gain right after the embedding"""
    qk_norm: bool = False
    """queries and keys of each head are normed before they are turned by their positions"""
    zero_init: bool = False
    """the last matrix of each attention and feed-forward part starts at zero"""
    residual_scalars: bool = False
    """each layer multiplies what it reads by a learned number, 1.15 to 1.05 at first"""
    x0_scalars: bool = False
    """each layer adds the embedding again, times a learned number, 0.20 to 0.05 at first"""
    value_embeddings: bool = False
    """every other layer, the last included, adds a table of the tokens to its values, gated"""
    attention_gate: bool = False
    """each head's result is multiplied by a gate that depends on what the layer reads"""
    unet_skip: bool = False
    """a late layer reads the result of an early one too, times a learned number, 0 at first"""
    backout: bool = False
    """the result of a middle layer is taken off at the end, times a learned number, 0 at first"""
    logit_softcap: float | None = None
    """logits are bent to stay below this: softcap * tanh(logits / softcap)"""
    ngram_rows: int = 0
    """rows of two hashed tables, of the last two and the last three tokens, whose entries are added
    to the embedding; 0: no such tables"""
    ngram_width: int | Literal["auto"] = "auto"
    """width of their rows, projected to d_model where it is another; auto: d_model"""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "n_layers", "d_model", "n_heads"):
            value = getattr(self, name)
            _require(value >= 1, f"{name} must be at least 1: got {value}")
        _require(
            self.d_model % self.n_heads == 0,
            f"n_heads must divide d_model: got n_heads={self.n_heads}, d_model={self.d_model}",
        )
        _require(
            self.position != "rope" or self.d_head % 2 == 0,
            f"RoPE turns pairs, so d_model / n_heads must be even: got d_model={self.d_model}, "
            f"n_heads={self.n_heads}, d_head={self.d_head}",
        )
        _require(
            self.d_ff == "auto" or self.d_ff >= 1,
            f"d_ff must be at least 1 or auto: got {self.d_ff}",
        )
        _require(self.rope_theta > 0, f"rope_theta must be above 0: got {self.rope_theta}")
        _require(self.norm_eps > 0, f"norm_eps must be above 0: got {self.norm_eps}")
        _require(
            self.logit_softcap is None or self.logit_softcap > 0,
            f"logit_softcap must be above 0: got {self.logit_softcap}",
        )
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
        """d_ff, or what "auto" stands for."""
        if self.d_ff != "auto":
            return self.d_ff
        if self.ffn != "swiglu":
            return 4 * self.d_model
        return max(64, round(self.d_model * 8 / 3 / 64) * 64)

    @property
    def ngram_row_width(self) -> int:
        """ngram_width, or what "auto" stands for."""
        return self.d_model if self.ngram_width == "auto" else self.ngram_width

    def has_value_embedding(self, layer: int) -> bool:
        """Whether that layer, counted from 0, adds a table of the tokens to its values."""
        return self.value_embeddings and (self.n_layers - 1 - layer) % 2 == 0


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer, its schedule and clipping."""

    name: Literal["adamw", "muon", "normuon", "sgd", "adagrad"] = "adamw"
    """muon, normuon: that one for the matrices of the blocks, AdamW for all the rest"""
    lr: float = 3e-3
    """peak learning rate (of the AdamW part under muon); a batch n times as large wants about
    sqrt(n) times the rate, of every group"""
    muon_lr: float = 0.02
    """peak learning rate of the block matrices under muon and normuon"""
    orthogonalization: Literal["newton-schulz", "polar-express"] = "newton-schulz"
    """iteration of muon and normuon: one polynomial five times, or the best five in a row"""
    embedding_lr: float | None = None
    """peak learning rate of the token embedding, unless it is also the head; none: lr"""
    value_embedding_lr: float | None = None
    """peak learning rate of the value embeddings; none: lr"""
    scalar_lr: float | None = None
    """peak learning rate of the scalars of residual, skip and backout connections; none: lr"""
    ngram_lr: float = 0.05
    """peak learning rate of the tables of n-grams, which have an AdaGrad of their own"""
    tie_until: float = 0.0
    """share of the run in which embedding and head, two matrices of the model, are held equal"""
    x0_lr: float | None = None
    """peak learning rate of the scalars that weigh the embedding in each layer; none: lr"""
    betas: tuple[float, float] = (0.9, 0.95)
    table_betas: tuple[float, float] | None = None
    """of all embeddings but one that is also the head; none: betas"""
    x0_betas: tuple[float, float] | None = None
    """of the scalars of x0_lr; none: betas"""
    eps: float = 1e-8
    weight_decay: float = 0.1
    """decoupled; on matrices of the blocks and the untied head, never on norms or embeddings"""
    weight_decay_schedule: Literal["constant", "linear"] = "constant"
    """linear: weight decay falls to 0 with the run"""
    cautious_weight_decay: bool = False
    """of block matrices under muon and normuon: only entries that the update shrinks decay"""
    momentum: float = 0.95
    """of muon, normuon and sgd"""
    momentum_start: float | None = None
    """momentum before the first step; none: constant from the start"""
    momentum_warmup_steps: int = 0
    """steps in which it rises from there to momentum"""
    momentum_end: float | None = None
    """momentum at the end, reached over the last decay_fraction of the run; none: no change"""
    max_grad_norm: float = 1.0
    """gradients are scaled down to this global l2 norm; inf leaves them alone"""
    schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    warmup_fraction: float = 0.05
    """share of the run in which the learning rate rises from 0"""
    warmup_steps: int | None = None
    """steps in which it rises, in place of the share; none: the share counts"""
    decay_fraction: float = 0.3
    """share of the run in which wsd falls at its end"""
    final_lr_ratio: float = 0.1
    """learning rate at the end over the peak"""
    average_tail: float = 0.0
    """share of the run, at its end, over whose weights the final model is averaged; 0: none"""
    average_every: int = 1
    """steps from one set of weights that counts in the average to the next"""

    def __post_init__(self) -> None:
        group_rates = ("embedding_lr", "value_embedding_lr", "scalar_lr", "x0_lr")
        for name in ("lr", "muon_lr", "ngram_lr", *group_rates, "eps", "max_grad_norm"):
            value = getattr(self, name)
            _require(value is None or value > 0, f"optim.{name} must be above 0: got {value}")
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
            "optim.warmup_fraction and optim.decay_fraction must not pass 1 together: got "
            f"{self.warmup_fraction} + {self.decay_fraction}",
        )
        momenta = (self.momentum, self.momentum_start, self.momentum_end)
        betas = (*self.betas, *(self.table_betas or ()), *(self.x0_betas or ()))
        _require(
            all(0 <= value < 1 for value in (*betas, *momenta) if value is not None),
            f"betas and momentum must lie in [0, 1): got {betas}, {momenta}",
        )
        _require(
            self.weight_decay >= 0, f"optim.weight_decay must be >= 0: got {self.weight_decay}"
        )
        for name in ("warmup_steps", "momentum_warmup_steps"):
            value = getattr(self, name)
            _require(value is None or value >= 0, f"optim.{name} must be >= 0: got {value}")
        _require(
            self.momentum_start is None or self.momentum_warmup_steps >= 1,
            f"optim.momentum_start={self.momentum_start} needs optim.momentum_warmup_steps: in how "
            "many steps the momentum rises from there",
        )
        _require(
            self.average_every >= 1,
            f"optim.average_every must be at least 1: got {self.average_every}",
        )
        _require(
            not self.cautious_weight_decay or self.name in ("muon", "normuon"),
            "optim.cautious_weight_decay needs optim.name muon or normuon: got "
            f"{self.name}, whose decay is never cautious",
        )


@dataclass(frozen=True)
class DataConfig:
    """Where the tokens are and how windows are drawn from them."""

    path: Annotated[str, tyro.conf.arg(name="data", prefix_name=False, metavar="DIR")] = ""
    """folder made by `fastlm.data prepare`; empty: generated stories are prepared and used"""
    sampling: Literal["shuffled", "random"] = "shuffled"
    """shuffled: every token once an epoch; random: every start equally likely, with replacement"""
    vocab_size: int = 4096
    """of the tokenizer trained on generated stories when there is no --data"""


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. The first budget reached ends the run; at least one is needed."""

    recipe: str = "custom"
    """named starting point; every other flag changes it"""
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    data: DataConfig = field(default_factory=DataConfig)
    batch_size: int = 16
    """windows an optimizer step sees, for which the learning rates are meant"""
    batch_ramp: tuple[int, ...] = ()
    """windows a step sees in place of batch_size, in that many equal parts of the run, such as
    256 512 768; empty: batch_size throughout"""
    batch_ramp_lr: tuple[float, ...] = ()
    """what all learning rates are multiplied with in those parts; empty: the square root of their
    windows over batch_size"""
    micro_batch: int | Literal["auto"] = "auto"
    """windows that go through the network at once; gradients of the parts are added up"""
    memory: float | Literal["auto"] = "auto"
    """GiB that micro_batch auto may fill: 8, 12, 24 ... of a card, at most what is free; if nothing
    fits, activations are checkpointed. auto: all that is free, and checkpointing stays as asked"""
    max_steps: int | None = None
    max_tokens: int | None = None
    time_budget: Duration = None
    """wall-clock from the process's start to its last validation, making of data aside"""
    fix_steps: bool = False
    """the schedule follows steps: a probe before the first finds max_steps, as many as the time
    budget holds, and the clock only ends a run that turns out slower"""
    eval_every: int = 200
    """steps between validations"""
    eval_tokens: int = 65_536
    """tokens of a validation on the way; the last one covers the whole file"""
    checkpoint_every: int = 1000
    """steps between checkpoints; one is always written at the end"""
    checkpoint_keep: int = 2
    """how many checkpoints remain"""
    max_skipped_steps: int = 0
    """steps whose loss or gradients are not finite that are left out; one more ends the run"""
    log_every: int = 10
    """steps between log rows"""
    logger: Literal["none", "tensorboard", "wandb"] = "none"
    """what log rows are sent to as well; its package has to be installed"""
    init_from: str = ""
    """run, or checkpoint of one, whose weights the first step begins with; its network is the
    starting point of the model flags; empty: weights drawn from the seed"""
    seed: int = 0
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """how the processes that torchrun starts share the work. ddp: each has the whole model; fsdp:
    each holds a part of it; auto: ddp"""
    compile: bool = False
    """torch.compile the training step"""
    compile_scope: Literal["step", "block"] = "step"
    """what is compiled as one graph: the whole step, or one block used for all layers, which
    starts sooner and runs a little slower"""
    checkpoint_activations: bool = False
    """blocks compute their activations again in the backward pass: less memory, slower"""
    bf16: bool = False
    """compute in bfloat16 (weights stay float32)"""
    fp8: bool = False
    """matrix products of the blocks in float8, on a GPU that has it (compute capability 8.9)"""
    deterministic: bool = False
    """repeatable arithmetic, at some cost in speed"""
    triton_ops: str = "auto"
    """auto, none, all, or names of Triton ops to use, comma-separated"""
    attention: Literal["auto", "fa3"] = "auto"
    """fa3: FlashAttention-3, which has to be installed, on a Hopper GPU with bf16; auto: what
    triton_ops has, else PyTorch's own"""

    def __post_init__(self) -> None:
        _require(self.batch_size >= 1, f"batch_size must be at least 1: got {self.batch_size}")
        _require(
            not self.init_from or self.optim.tie_until == 0,
            f"optim.tie_until={self.optim.tie_until} makes the head from the embedding, and so "
            "would lose the head of init_from: give --optim.tie-until 0",
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
            all(value > 0 for value in self.batch_ramp_lr),
            f"batch_ramp_lr must be above 0: got {self.batch_ramp_lr}",
        )
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
        counts = ("eval_every", "eval_tokens", "checkpoint_every", "checkpoint_keep", "log_every")
        for name in counts:
            value = getattr(self, name)
            _require(value >= 1, f"{name} must be at least 1: got {value}")
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
            "fix_steps finds how many steps a time budget holds: give --time-budget, or leave it "
            "out with --no-fix-steps",
        )

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Windows of a step in each stage of the batch ramp: equal shares of the run."""
        return self.batch_ramp or (self.batch_size,)

    @property
    def lr_factors(self) -> tuple[float, ...]:
        """Factor of all learning rates in each stage."""
        return self.batch_ramp_lr or tuple(
            math.sqrt(size / self.batch_size) for size in self.batch_sizes
        )

    def stage(self, progress: float) -> int:
        """The stage of a step before which a share of the run is done."""
        n_stages = len(self.batch_sizes)
        return sum(progress >= i / n_stages for i in range(1, n_stages))

    def steps_in_stages(self, n_steps: int) -> tuple[int, ...]:
        """How many steps each stage has in a run of n_steps."""
        n_stages = len(self.batch_sizes)
        # Stage i begins with the first step before which i / n_stages of the steps are done.
        edges = [-(-i * n_steps // n_stages) for i in range(n_stages + 1)]
        return tuple(b - a for a, b in itertools.pairwise(edges))

    def tokens_in(self, n_steps: int) -> int:
        """Tokens a run of so many steps trains on."""
        stages = zip(self.batch_sizes, self.steps_in_stages(n_steps), strict=True)
        return self.model.context_length * sum(size * n for size, n in stages)

    @functools.cached_property
    def total_steps(self) -> int | None:
        """Steps the step and token budgets allow; None when only the clock ends the run."""
        limits = []
        if self.max_steps is not None:
            limits.append(self.max_steps)
        if self.max_tokens is not None:
            # One step more is always more tokens, though it moves the stages.
            most = self.max_tokens // (self.batch_sizes[0] * self.model.context_length)
            fitting = bisect.bisect_right(range(most + 1), self.max_tokens, key=self.tokens_in) - 1
            limits.append(max(1, fitting))
        return min(limits) if limits else None
