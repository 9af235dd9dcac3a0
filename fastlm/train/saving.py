"""Checkpoints of a run: their content, saving, and resuming from one."""

import dataclasses
import time
from typing import Any

from fastlm.accounting import step_memory
from fastlm.checkpoint import SavedRun, check_same_data, continued, set_aside, take_snapshot
from fastlm.checkpoint.host_copies import reserve
from fastlm.checkpoint.saver import SaveFailed, Saver
from fastlm.config import TrainConfig
from fastlm.files import folders
from fastlm.optim import Stepper
from fastlm.runs.given import going_on, only_weights
from fastlm.train.budget import Clock
from fastlm.train.trainer import Trainer
from fastlm.train.watch import Diverged, Watch, last_step


class Saving:
    """Writes checkpoints of a trainer, and restores it from one.

    All processes call its methods; the first one writes.
    """

    def __init__(self, trainer: Trainer, watch: Watch, clock: Clock, saver: Saver) -> None:
        self.trainer, self.watch, self.clock, self.saver = trainer, watch, clock, saver
        data = trainer.data
        self._hashes = {
            "tokenizer_hash": data.tokenizer_hash,
            "train_hash": data.train.hash,
            "val_hash": data.val.hash,
        }

    @property
    def checkpoint_bytes(self) -> int:
        """Expected checkpoint size, by formula: before step 1 the optimizers hold no state."""
        return step_memory(self.trainer.config, 1, bf16=False).saved

    def reserve(self) -> None:
        """Take the memory on the host that checkpoints of a GPU's tensors are copied to."""
        trainer = self.trainer
        if trainer.ranks.is_fsdp or not trainer.ranks.is_first:
            return
        tensors = list(trainer.model.state_dict().values())
        for optimizer in trainer.optimizers:
            if isinstance(optimizer, Stepper):
                own = [p for group in optimizer.param_groups for p in group["params"]]
                tensors += own * optimizer.n_moments
        if trainer.average is not None:
            tensors += trainer.average.means
        reserve(tensors)

    def state(self) -> dict[str, Any]:
        """Content of a checkpoint beside the weights and the optimizers' state."""
        state = self.trainer.state()
        return {
            "seconds": self.clock.seconds,
            "elapsed_seconds": self.clock.elapsed,
            "watch": {"n_bad": state.pop("n_bad"), **self.watch.state_dict()},
            **state,
        }

    def save(self, *, wait: bool = False) -> float:
        """Write a checkpoint; all steps before it must have been read.

        Args:
            wait: return when it is on the disk; otherwise when it is copied to host memory.
        Returns:
            Seconds that training waited.
        Raises:
            Diverged: if the weights, the optimizers' state or the average is not finite, as the
                last update left them; nothing is saved.
        """
        trainer, began = self.trainer, time.perf_counter()
        assert not trainer.guard.unread, "an unread step may not be finite"
        if (what := trainer.what_is_not_finite()) is not None:
            raise Diverged(last_step(trainer), what)
        about = {"config": dataclasses.asdict(trainer.config), **self._hashes}
        self.saver.finish()  # before more memory is taken
        if trainer.ranks.is_first or trainer.ranks.is_fsdp:
            snapshot = take_snapshot(
                trainer.step,
                trainer.model,
                trainer.optimizers,
                self.state(),
                about,
                is_kept=trainer.ranks.is_first,
            )
            trainer.copies = snapshot.copies
        if trainer.ranks.is_first:
            self.saver.save(snapshot, wait=wait)
        return time.perf_counter() - began

    def abandon(self) -> None:
        """Set aside the checkpoint of this step, if there is one: nothing goes on from it."""
        if self.trainer.ranks.is_first:
            self.saver.finish()
            set_aside(self.saver.folder, self.trainer.step - 1)

    def save_last(self, *, renew: bool = False) -> None:
        """Save the current step and wait until it is on the disk; a failed save is tried again.

        Args:
            renew: write the checkpoint again even if it exists.
        Raises:
            SaveFailed: if both attempts fail.
        """
        self.saver.finish()
        ranks = self.trainer.ranks
        if renew or ranks.of_first(not self.saver.has(self.trainer.step)):
            self.save(wait=True)
        if ranks.of_first(self.saver.failure is not None):
            self.save(wait=True)
        if self.saver.failure is not None:
            failure, folder = self.saver.failure, self.saver.folder
            remedy = folders.remedy(failure, folder)
            raise SaveFailed(
                f"the last checkpoint could not be saved: {failure}; "
                f"{remedy and f'{remedy} and '}{going_on(folder.parent)}"
            )

    def resume(self, saved: SavedRun) -> TrainConfig:
        """Resume from a checkpoint as if never stopped; returns the configuration to continue with.

        Raises:
            ValueError: if its network, optimizer, data or batch size differ.
        """
        run = self.saver.folder.parent
        if not saved.optimizers:
            raise only_weights(run)
        check_same_data(saved, self._hashes, str(self.trainer.data.folder))
        config = continued(self.trainer.config, saved)
        self.restore(saved)
        then = saved.manifest["config"]
        if self.trainer.average is not None and any(
            getattr(config, name) != then.get(name)
            for name in ("max_steps", "max_tokens", "time_budget")
        ):
            self.trainer.average.end_elsewhere()
        self.clock.continue_from(saved.state["elapsed_seconds"], saved.state["seconds"])
        return config

    def restore(self, saved: SavedRun) -> None:
        """Restore everything that the next step depends on, except the clock."""
        watch = dict(saved.state["watch"])
        state = {**saved.state, "n_bad": watch.pop("n_bad")}
        self.trainer.load_state(saved.step, state, saved.model, saved.optimizers)
        self.watch.load_state_dict(watch)
