"""The training state of a run, and the optimizer step that changes it."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fastlm.checkpoint.host_copies import HostCopies
from fastlm.checkpoint.tree import are_finite
from fastlm.config import TrainConfig
from fastlm.data.prepared import PreparedData
from fastlm.data.windows import Batch, batches, check_not_cut
from fastlm.devices.fsdp import assign, local, reshard
from fastlm.devices.ranks import Ranks
from fastlm.evaluate.loss import Evaluation, evaluate_loss
from fastlm.ops import forward_only
from fastlm.optim import clip_gradients, set_schedule
from fastlm.train.assemble import Setup, assemble
from fastlm.train.row_loss import RowLoss


class StepRecord(NamedTuple):
    """Result of one step, still on the device; reading the tensors waits for the device.

    Attributes:
        number: number of the step, from 1.
        first_window: number of the first window it trained on.
        stage: stage of the batch ramp.
        loss: mean over the batch.
        is_finite: whether loss and gradient norm are finite; if not, the step changed nothing.
        is_one_too_many: whether more than max_skipped steps were not finite.
    """

    number: int
    first_window: int
    stage: int
    loss: Float[Tensor, ""]
    is_finite: Bool[Tensor, ""]
    is_one_too_many: Bool[Tensor, ""]


class StepGuard:
    """Decides on the device which steps are applied: those with finite loss and gradient norm.

    Args:
        max_skipped: number of steps that are not finite to skip; after one more, no step is
            applied any more.
    """

    def __init__(self, device: torch.device, max_skipped: int = 0) -> None:
        self.max_skipped = max_skipped
        self.n_bad = torch.zeros((), dtype=torch.int64, device=device)
        """Number of steps that were not finite."""
        self.unread: list[StepRecord] = []
        """Steps that the host has not read yet."""

    def record(
        self, number: int, first_window: int, stage: int, loss: Tensor, norm: Tensor
    ) -> Bool[Tensor, ""]:
        """Record a step; returns a flag on the device: whether to apply it. Does not wait."""
        is_finite = loss.isfinite() & norm.isfinite()
        self.n_bad += ~is_finite
        is_one_too_many = self.n_bad > self.max_skipped
        record = StepRecord(number, first_window, stage, loss, is_finite, is_one_too_many)
        self.unread.append(record)
        return is_finite & ~is_one_too_many

    def take_unread(self) -> list[StepRecord]:
        """The steps recorded since the last call."""
        taken, self.unread = self.unread, []
        return taken

    def load_state(self, *, n_bad: int) -> None:
        """Restore the number of steps that were not finite; drops unread steps."""
        self.n_bad.fill_(n_bad)
        self.unread = []


class Trainer:
    """Model, optimizers and data of a run, and the optimizer step.

    Args:
        data: prepared data with the vocab_size of config.model.
        setup: the device and the operations to compute with.
        ranks: the data parallel processes; each has a trainer and calls the same methods in the
            same order.
        keeps_graphs: as in assemble().
    """

    def __init__(
        self,
        config: TrainConfig,
        data: PreparedData,
        setup: Setup,
        ranks: Ranks | None = None,
        *,
        keeps_graphs: bool = False,
    ) -> None:
        self.config, self.data = config, data
        self.device, self.ranks = setup.device, ranks or Ranks()
        parts = assemble(config, setup, self.ranks, keeps_graphs=keeps_graphs)
        self.memory, self.micro_batch = parts.memory, parts.memory.micro_batch
        self.validation_batch = parts.validation_batch
        self.model, self.optimizers, self.tie = parts.model, parts.optimizers, parts.tie
        self.parameters, self.average = parts.parameters, parts.average
        self.loss, self.gradient_sum = parts.loss, parts.gradient_sum
        self.batch_sizes, self.lr_factors = config.batch_sizes, config.lr_factors
        self.step = 0
        """Number of steps taken."""
        self.n_windows = 0
        """Number of windows trained on so far, which is the number of the next window."""
        self.stage = 0
        """Stage of the batch ramp at the last step."""
        self.evaluated_step: int | None = None
        """The last step that was followed by a validation on part of the file."""
        self.guard = StepGuard(self.device, config.max_skipped_steps)
        self.copies: HostCopies | None = None
        """The copies that a GPU may still be making of the state, which must not change before."""

    @property
    def tokens(self) -> int:
        """Tokens trained on so far."""
        return self.n_windows * self.config.model.context_length

    def train_step(
        self, stream: Iterator[Batch], *, stage: int, progress: float
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Take one optimizer step; returns loss and gradient norm without waiting for the device.

        Args:
            stream: this process's micro-batches.
            stage: stage of the batch ramp, which sets batch size and learning-rate factor.
            progress: share of the run that is done after this step, for the schedules.
        """
        batch_size = self.batch_sizes[stage]
        loss = self.add_gradients(stream, n_micro_batches=batch_size // self.micro_batch)
        if self.tie is not None:
            self.tie.before_step()
        norm = clip_gradients(self.parameters, self.config.optim.max_grad_norm, ranks=self.ranks)
        applies = self.guard.record(self.step + 1, self.n_windows, stage, loss, norm)
        set_schedule(
            self.optimizers,
            self.config.optim,
            step=self.step + 1,
            progress=progress,
            lr_factor=self.lr_factors[stage],
        )
        self.update(applies)
        if self.tie is not None:
            self.tie.after_step()
            if progress >= self.config.optim.tie_until:
                self.tie.untie(self.optimizers)
        self.step += 1
        self.n_windows += batch_size
        self.stage = stage
        if self.average is not None:
            self.average.count(self.step, progress)
        return loss, norm

    def add_gradients(self, stream: Iterator[Batch], *, n_micro_batches: int) -> Float[Tensor, ""]:
        """Accumulate the gradients of a batch; returns its mean loss over all processes."""
        # FSDP averages gradients over the processes, the all-reduce of DDP sums them.
        factor = self.ranks.size if self.ranks.is_fsdp else 1
        total = torch.zeros((), device=self.device)
        n_mine = n_micro_batches // self.ranks.size
        for i in range(n_mine):
            inputs, targets = next(stream)
            loss = self.loss(inputs, targets) / n_micro_batches
            if self.gradient_sum is not None:
                self.gradient_sum.expect_backward(is_last=i == n_mine - 1)
            (loss * factor).backward()
            if isinstance(self.loss, RowLoss):
                self.loss.keep_gradients(factor)
            total += loss.detach()
        if self.ranks.size > 1:
            self.ranks.sum_(total)
        if self.gradient_sum is not None:
            self.gradient_sum.finish()
        return total

    def update(self, applies: Bool[Tensor, ""]) -> None:
        """Change the parameters by their gradients, then drop the gradients.

        Args:
            applies: a flag on the device; no parameter changes if it is False.
        """
        self._hold_back()
        for optimizer in self.optimizers:
            optimizer.step(applies=applies)
            optimizer.zero_grad(set_to_none=True)

    def _hold_back(self) -> None:
        """Let the device change nothing before it is copied; does not wait."""
        if self.copies is not None:
            self.copies.hold_back()
            self.copies = None

    def stream(self, first_window: int | None = None, *, is_shared: bool = True) -> Iterator[Batch]:
        """Infinite stream of micro-batches, by default from the first window not trained on.

        Args:
            is_shared: whether each process gets its own micro-batches; otherwise all get all.
        """
        return batches(
            self.data.train.tokens,
            first_window=self.n_windows if first_window is None else first_window,
            micro_batch=self.micro_batch,
            context_length=self.config.model.context_length,
            sampling=self.config.data.sampling,
            seed=self.config.seed,
            device=self.device,
            rank=self.ranks.rank if is_shared else 0,
            n_ranks=self.ranks.size if is_shared else 1,
            vocab_size=self.data.vocab_size,
        )

    def evaluate(
        self, max_tokens: int | None, check: Callable[[], None] = lambda: None
    ) -> Evaluation:
        """Validation loss over about max_tokens spread over the file, or over all of it (None).

        Args:
            check: called between batches; an exception it raises ends the evaluation.
        """

        def check_all() -> None:
            check()
            check_not_cut(self.data.val.tokens)

        check_all()
        # With gradients enabled, so that the graph compiled for training is reused.
        with forward_only():
            result = evaluate_loss(
                self.loss,
                self.data.val.tokens,
                context_length=self.config.model.context_length,
                batch_size=self._validation_batch(max_tokens),
                device=self.device,
                max_tokens=max_tokens,
                check=check_all,
                ranks=self.ranks,
            )
        reshard(self.model)  # optimizers write to the shards, not to gathered parameters
        if max_tokens is not None:
            self.evaluated_step = self.step
        return result

    def _validation_batch(self, max_tokens: int | None) -> int:
        """Windows per batch, at most one process's share, as more would be padding."""
        if self.config.compile:
            return self.validation_batch
        n_tokens = len(self.data.val.tokens) - 1
        n_tokens = n_tokens if max_tokens is None else min(max_tokens, n_tokens)
        share = -(-n_tokens // (self.config.model.context_length * self.ranks.size))
        return max(1, min(self.validation_batch, share))

    def use_average(self) -> int:
        """Make the weight average the model; returns how many sets of weights are in it."""
        self._hold_back()
        return 0 if self.average is None else self.average.use()

    def use_config(self, config: TrainConfig) -> None:
        """Continue with other budgets."""
        self.config = config

    def what_is_not_finite(self) -> str | None:
        """Name what is NaN or infinite on any process, with a verb; None if nothing is.

        Waits for the device.
        """
        states = [value for o in self.optimizers for s in o.state.values() for value in s.values()]
        means = self.average.means if self.average is not None and self.average.n_averaged else []
        named = {
            "the weights are": self.model.state_dict().values(),
            "the optimizer's state is": [value for value in states if isinstance(value, Tensor)],
            "the average of the weights is": means,
        }
        broken = self.ranks.largest(
            *(not are_finite(local(t.detach()) for t in tensors) for tensors in named.values())
        )
        return next((what for what, is_one in zip(named, broken, strict=True) if is_one), None)

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Replace the model's weights; every process must call this."""
        self._hold_back()
        if self.ranks.is_fsdp:
            for name, tensor in self.model.state_dict().items():
                assign(tensor, weights[name])
        else:
            self.model.load_state_dict(weights)

    def state(self) -> dict[str, Any]:
        """State that the next step depends on, beside weights and optimizers: JSON and tensors."""
        state: dict[str, Any] = {
            "tokens": self.tokens,
            "cpu_rng": torch.get_rng_state(),
            "n_bad": int(self.guard.n_bad),
            "evaluated_step": self.evaluated_step,
            "is_tied": self.tie is not None and self.tie.is_tied,
        }
        if self.device.type == "cuda":
            state["cuda_rng"] = torch.cuda.get_rng_state(self.device)
        if self.average is not None:
            state["average"] = self.average.state_dict()
        return state

    def load_state(
        self,
        step: int,
        state: dict[str, Any],
        weights: dict[str, Tensor],
        optimizers: list[dict[str, Any]],
    ) -> None:
        """Restore state(), the model and the optimizers as they were after a step."""
        self.step = step
        self.n_windows = state["tokens"] // self.config.model.context_length
        self.load_weights(weights)
        for optimizer, optimizer_state in zip(self.optimizers, optimizers, strict=True):
            optimizer.load_state_dict(optimizer_state)
        self.evaluated_step = state["evaluated_step"]
        self.guard.load_state(n_bad=state["n_bad"])
        if self.tie is not None:
            self.tie.load_state(is_tied=bool(state.get("is_tied", False)))
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        torch.set_rng_state(state["cpu_rng"])
        if self.device.type == "cuda" and "cuda_rng" in state:
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)
