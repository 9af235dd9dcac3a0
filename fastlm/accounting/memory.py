"""Memory that a training step needs, from a configuration alone."""

import math
from collections.abc import Callable, Collection
from typing import NamedTuple

from fastlm.accounting.counts import count_parameters
from fastlm.config import VALUE_GATE_INPUTS, ModelConfig, OptimConfig, TrainConfig


def largest_batch(needed: Callable[[int], int], n_bytes: float) -> int:
    """The largest number of windows whose training step fits; 0 if not even one fits.

    Args:
        needed: peak memory in bytes for a number of windows at once, from step_memory.
        n_bytes: memory in bytes.
    Raises:
        ValueError: if the memory is no finite number.
    """
    if not math.isfinite(n_bytes):
        raise ValueError(f"memory must be a finite number of bytes: got {n_bytes}")
    if needed(1) > n_bytes:
        return 0
    fits, too_many = 1, 2
    while needed(too_many) <= n_bytes:
        fits, too_many = too_many, 2 * too_many
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if needed(middle) <= n_bytes else (fits, middle)
    return fits


class StepMemory(NamedTuple):
    """Bytes that a training step of one process holds at its peak, by part."""

    parameters: int
    gradients: int
    optimizer: int
    average: int
    activations: int
    head: int
    step: int

    @property
    def total(self) -> int:
        return sum(self)

    @property
    def saved(self) -> int:
        """Bytes of a checkpoint."""
        return self.parameters + self.optimizer + self.average


def step_memory(
    config: TrainConfig,
    micro_batch: int,
    *,
    bf16: bool,
    kernels: Collection[str] = (),
    n_parts: int = 1,
) -> StepMemory:
    """Peak memory of a run's training step in each process, from training_memory.

    Args:
        micro_batch: windows per micro-batch.
        bf16: whether activations are bfloat16 on the device, which config.bf16 only asks for.
        kernels: names of the operations that Triton kernels compute; see training_memory.
        n_parts: number of processes that shard optimizer state and average, as FSDP does.
            Parameters and gradients are counted in full even then: each layer gathers them.
    """
    whole = training_memory(
        config.model,
        micro_batch,
        bf16=bf16,
        optim=config.optim,
        compiled=config.compile,
        checkpointed=config.checkpoint_activations,
        kernels=kernels,
    )
    memory = StepMemory(**whole)
    return memory._replace(optimizer=memory.optimizer // n_parts, average=memory.average // n_parts)


def _layer_matrices(config: ModelConfig) -> int:
    """Number of parameters of a block's matrices, without gates."""
    n_ffn_matrices = 3 if config.ffn == "swiglu" else 2
    return 4 * config.d_model**2 + n_ffn_matrices * config.d_model * config.ffn_width


def training_memory(
    config: ModelConfig,
    batch_size: int,
    *,
    bf16: bool = False,
    optim: OptimConfig | None = None,
    compiled: bool = False,
    checkpointed: bool = False,
    kernels: Collection[str] = (),
) -> dict[str, int]:
    """Bytes that a training step holds at its peak, by part; their sum is the peak.

    parameters, gradients, optimizer (its state) and average (of the weights) are float32 and do not
    depend on batch_size. activations and head are the tensors saved for the backward pass
    (saved_for_backward); head includes the gradient of the logits. step is the temporary memory
    that the optimizer step needs beyond these, when the activations have been freed.

    Memory of the device's driver and libraries, and fragmentation, are not included.

    Args:
        batch_size: windows per micro-batch.
        optim: optimizer configuration; by default AdamW.
        compiled, checkpointed, kernels: as for saved_for_backward.
    """
    optim = OptimConfig() if optim is None else optim
    n_parameters = count_parameters(config)
    # N-gram tables have no dense gradients, and one number of state per row (fastlm.optim.rows).
    n_row_parameters = 2 * config.ngram_rows * config.ngram_row_width
    n_dense = n_parameters - n_row_parameters
    n_matrices = config.n_layers * _layer_matrices(config) if optim.name in _MUON else 0
    state = {"adamw": 8, "adagrad": 4, "sgd": 4 if optim.momentum else 0}.get(optim.name, 8)
    state_bytes = state * (n_dense - n_matrices) + 4 * n_matrices + 8 * config.ngram_rows
    step_bytes = _MUON_STEP_BYTES * n_matrices
    if optim.name == "adagrad":
        step_bytes = 4 * n_dense
    if optim.name == "normuon":
        state_bytes += 4 * config.n_layers * _layer_rows(config)
    n_tokens = batch_size * config.context_length
    size = 2 if bf16 else 4
    kept = saved_for_backward(
        config,
        batch_size,
        bf16=bf16,
        compiled=compiled,
        checkpointed=checkpointed,
        kernels=kernels,
    )
    head = _head_saved(config, n_tokens, size, compiled=compiled, kernels=kernels)
    activations = kept - head
    head += _head_passing(config, n_tokens, size, compiled=compiled, kernels=kernels)
    if checkpointed:
        # A block's activations are recomputed after those of the head were freed.
        layers = range(max(config.n_layers - 2, 0), config.n_layers)
        again = max(
            _layer_saved(config, i, n_tokens, size, compiled=compiled, kernels=kernels)
            for i in layers
        )
        again += n_tokens * _layer_passing(config, size, compiled=compiled, kernels=kernels)
        activations += max(0, again - head)
    return {
        "parameters": 4 * n_parameters,
        "gradients": 4 * n_dense + n_tokens * _ngram_gradient_bytes(config),
        "optimizer": state_bytes,
        "average": 4 * n_dense if optim.average_tail > 0 else 0,
        "activations": activations,
        "head": head,
        "step": max(0, step_bytes - activations - head),
    }


_MUON = ("muon", "normuon")

_MUON_STEP_BYTES = 22
"""Temporary bytes per matrix parameter in a step of Muon: 4 each for the update, its stack, the
stack of the parameters and their new values; about 6 for the iteration, which runs shape by shape
in float32."""


def _layer_rows(config: ModelConfig) -> int:
    """Number of rows of a block's matrices; NorMuon has a second moment for each."""
    n_inner = 2 if config.ffn == "swiglu" else 1
    return 5 * config.d_model + n_inner * config.ffn_width


def _ngram_gradient_bytes(config: ModelConfig) -> int:
    """Bytes per token: the rows looked up in two tables, their gradients and their indices."""
    return 2 * (8 * config.ngram_row_width + 8) if config.ngram_rows > 0 else 0


def saved_for_backward(
    config: ModelConfig,
    batch_size: int,
    *,
    bf16: bool = False,
    compiled: bool = False,
    checkpointed: bool = False,
    kernels: Collection[str] = (),
) -> int:
    """Bytes that autograd saves for the backward pass, without the parameters.

    For PyTorch's own operations (torch_ops) on a CPU this is within 2 %, compiled within 5 %. On a
    GPU, attention returns its result in the layout that the next product reads, which saves d_model
    values per token and layer. Triton kernels save less than PyTorch's uncompiled operations.

    Args:
        bf16: activations and cast weights are bfloat16; inputs of norms, ReLU^2 and loss are
            float32 unless compiled.
        compiled: cheap operations are recomputed in the backward pass.
        checkpointed: blocks save only their input.
        kernels: names of the operations that Triton kernels compute. linear_cross_entropy saves two
            gradients in place of the logits, relu2_ffn only its hidden layer, and qkv_norm_rope the
            values apart from the projection; the others save as much as compiled code.
    """
    size, n_tokens = 2 if bf16 else 4, batch_size * config.context_length
    total = _embedding_saved(config, n_tokens, size, compiled=compiled)
    for i in range(config.n_layers):
        if checkpointed:
            total += n_tokens * config.d_model * size
        else:
            total += _layer_saved(config, i, n_tokens, size, compiled=compiled, kernels=kernels)
    return total + _head_saved(config, n_tokens, size, compiled=compiled, kernels=kernels)


def _norm_saved(config: ModelConfig, size: int, *, compiled: bool) -> int:
    """Bytes per token: the input of a norm of d_model features, its scale, and x before gains."""
    accurate = size if compiled else 4
    return config.d_model * accurate * (2 if config.norm_gain and not compiled else 1) + 4


def _embedding_saved(config: ModelConfig, n_tokens: int, size: int, *, compiled: bool) -> int:
    d, accurate = config.d_model, size if compiled else 4
    per_token = 8  # the token's number
    if config.embedding_norm:
        per_token += d * accurate + 4
    # Inputs of the learned scalars; the first layer's input is the embedding, which is also x0.
    if config.residual_scalars:
        per_token += config.n_layers * d * size
    else:
        per_token += config.x0_scalars * d * size
        if config.x0_scalars or (config.norm == "pre" and size != accurate):
            # Otherwise the next layer saves these anyway.
            per_token += (config.unet_skip + config.backout) * d * size
    width = config.ngram_row_width
    projected = config.ngram_rows > 0 and width != d
    copies = 0
    if projected:
        per_token += 2 * width * size
        copies = 2 * width * d * 2 if size == 2 else 0
    return n_tokens * per_token + copies


def _layer_saved(
    config: ModelConfig,
    layer: int,
    n_tokens: int,
    size: int,
    *,
    compiled: bool,
    kernels: Collection[str],
) -> int:
    d, f, h = config.d_model, config.ffn_width, config.n_heads
    has_value = config.has_value_embedding(layer)
    accurate = size if compiled else 4
    is_placed = config.position == "rope" or config.qk_norm
    # Inputs of the qkv and feed-forward products; the output of attention with its log-sum-exp.
    per_token = 3 * d * size + 4 * h
    if is_placed or config.attention_gate:
        per_token += d * size  # attention's output in the layout of the next product
    if config.norm != "none":
        per_token += 2 * _norm_saved(config, size, compiled=compiled)
    # q, k and v are views of one tensor, which is kept as long as one of them is needed.
    if config.qk_norm and config.position == "rope" and "qkv_norm_rope" in kernels:
        per_token += (3 if has_value else 4) * d * size
    elif config.qk_norm:
        gains = 2 if config.norm_gain and not compiled else 1
        per_token += 2 * 4 * h  # scales
        if accurate == size:
            per_token += 3 * d * size + (gains - 1) * 2 * d * accurate
        else:
            per_token += gains * 2 * d * accurate + (0 if has_value else 3 * d * size)
    elif not (has_value and config.position == "rope"):
        per_token += 3 * d * size
    if is_placed:
        per_token += 2 * d * size
    if has_value:  # the values, the value embedding, and the gates
        per_token += 2 * d * size + 2 * h * size
    if config.attention_gate:
        per_token += 2 * h * size
    per_token += {
        "swiglu": (3 if compiled else 4) * f * size,
        "silu": 2 * f * size,
        "relu2 in one": f * size,
        "relu2": 2 * f * size if compiled else 2 * f * 4 + f * size,
    }["relu2 in one" if config.ffn == "relu2" and "relu2_ffn" in kernels else config.ffn]
    copies = 0
    if config.attention_gate:  # its rows are joined to those of queries, keys and values
        copies = d * h if size == 2 else d * (3 * d + h)
    if size == 2:
        copies += _layer_matrices(config) + has_value * min(VALUE_GATE_INPUTS, d) * h
    return n_tokens * per_token + size * copies


def _layer_passing(
    config: ModelConfig, size: int, *, compiled: bool, kernels: Collection[str]
) -> int:
    """Bytes per token: gradients in the feed-forward layer, where a block's backward starts."""
    if config.ffn == "relu2" and "relu2_ffn" in kernels:
        return config.ffn_width * size
    if compiled:
        return 3 * config.ffn_width * size
    in_bf16 = 16 if config.ffn == "relu2" else 10
    return config.ffn_width * (12 if size == 4 else in_bf16) + 4 * config.d_model


def _head_saved(
    config: ModelConfig, n_tokens: int, size: int, *, compiled: bool, kernels: Collection[str]
) -> int:
    d, v = config.d_model, config.vocab_size
    total = 0
    if config.norm != "none":
        total += n_tokens * _norm_saved(config, size, compiled=compiled)
    if "linear_cross_entropy" in kernels:
        return total + n_tokens * d * size + 4 * v * d
    total += n_tokens * (d * size + 8) + (2 * v * d if size == 2 else 0)
    if compiled:
        return total + n_tokens * v * size
    # The logarithms of the probabilities, and with softcap the tanh.
    return total + n_tokens * v * 4 * (1 if config.logit_softcap is None else 2)


_HEAD_CHUNK_BYTES = 512 << 20
"""Size of the chunk of logits that the Triton linear_cross_entropy holds at a time."""


def _head_passing(
    config: ModelConfig, n_tokens: int, size: int, *, compiled: bool, kernels: Collection[str]
) -> int:
    """Temporary bytes of the head: gradients of the logits, in float32 and in the compute dtype.

    Compiled code writes them over the logits; the gradient of its weights, in the compute dtype and
    in float32, is there beside all activations before it is added to that of earlier micro-batches.
    """
    v = config.vocab_size
    if "linear_cross_entropy" in kernels:
        fitting = _HEAD_CHUNK_BYTES // (v * size) // 256 * 256
        rows = min(n_tokens, max(fitting, 2048), 16_384)
        return rows * v * size + (2 * v * config.d_model if size == 2 else 0)
    return (size + 4) * v * config.d_model if compiled else n_tokens * v * 8
