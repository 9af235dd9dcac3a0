"""Writing checkpoints while training goes on; a full disk does not end the run."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from fastlm.checkpoint import (
    Damaged,
    Snapshot,
    is_kept,
    keep_for_good,
    run_checkpoints,
    step_folder,
    step_of,
    write_snapshot,
)
from fastlm.cli.units import human_bytes
from fastlm.files import folders
from fastlm.files.step_folders import newest_step

RETRY_SECONDS = 30.0
"""Seconds between a checkpoint that could not be written and the next attempt."""

_BYTES_PER_SECOND = 300e6
"""Bytes copied, hashed twice, written and read back per second: a guess until measured."""


class SaveFailed(RuntimeError):
    """The last checkpoint of the run is not on disk."""


class Saver:
    """Writes one checkpoint at a time, in a thread of its own.

    Training waits while the model is copied to the CPU, but not for hashing and writing.

    Args:
        folder: folder of the checkpoints.
        keep: number of checkpoints that remain.
        before_rename: as in write_snapshot.
        ready: called before each checkpoint is written: makes the folder of its run ready, and
            returns the folder of the checkpoints, which may be another one since.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        before_rename: Callable[[], None] | None = None,
        ready: Callable[[], Path] | None = None,
    ) -> None:
        self.folder, self.keep, self.before_rename = folder, keep, before_rename
        self._ready = ready
        self.seconds = 1.0
        """Seconds that the last checkpoint took."""
        self.failure: OSError | Damaged | None = None
        """Reason why the last checkpoint is not on disk; None if it is."""
        self.given_step: int | None = None
        """Step of the last checkpoint given to this process to write."""
        self.saved_step: int | None = None
        """Step of the last checkpoint that this process has written."""
        self._failed_at = 0.0
        self._taken_at = time.perf_counter()
        self._bug: BaseException | None = None
        self._untold: list[str] = []
        self._thread: threading.Thread | None = None

    def check_space(self, n_bytes: int) -> None:
        """Check that the disk has space for the coming checkpoints, of n_bytes each.

        The time that one takes is estimated from n_bytes until the first is written.

        Raises:
            OSError: if it has not; the message gives the space needed and free, and advice.
        """
        self.seconds = 0.2 + n_bytes / _BYTES_PER_SECOND
        made = folders.make_folder(self.folder)
        there = [path for path in run_checkpoints(self.folder) if not is_kept(path)]
        to_come = self.keep + 1 - min(self.keep, len(there))
        free = folders.free_bytes(self.folder)
        if free < to_come * n_bytes:
            folders.remove_empty(made)
            raise OSError(
                f"{self.folder} has {human_bytes(free)} free, the checkpoints of this run need "
                f"{human_bytes(to_come * n_bytes)} ({to_come} of {human_bytes(n_bytes)}): make "
                "room, or give an --out on another disk"
            )

    def keep_newest(self) -> Path | None:
        """Keep the newest checkpoint for good, once it is written; None if there is none."""
        self.finish()
        own = (path for path in run_checkpoints(self.folder) if not path.is_symlink())
        newest = max(own, default=None, key=step_of)
        if newest is not None:
            try:
                keep_for_good(newest)
            except OSError as error:
                self._untold.append(
                    f"warning: {newest} cannot be kept for good ({error.strerror or error})"
                )
                return None
        return newest

    def make_ready(self) -> None:
        """Make the folder of the run ready to be written to.

        Raises:
            OSError: if that fails.
        """
        if self._ready is not None:
            self.folder = self._ready()

    def has(self, step: int) -> bool:
        """Return whether this process has written the checkpoint of a step, and it is there."""
        return self.saved_step == step and (self.folder / step_folder(step)).is_dir()

    def expect(self, seconds: float) -> None:
        """Set the seconds that the next checkpoint is expected to take."""
        self.seconds = seconds

    def save(self, snapshot: Snapshot, *, wait: bool = False) -> None:
        """Begin to write a checkpoint, after waiting for an earlier one.

        A failed write raises no error here: see failure, wants_retry and news.
        """
        self.finish()
        self.given_step, self._taken_at = snapshot.step, time.perf_counter()
        self._thread = threading.Thread(target=self._write, args=(snapshot,), daemon=True)
        self._thread.start()
        if wait:
            self.finish()

    def finish(self) -> None:
        """Wait for the checkpoint that is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._bug is not None:
            raise self._bug

    def start_clock(self) -> None:
        """Count the age of the last checkpoint from now on."""
        self._taken_at = time.perf_counter()

    def is_due(self, seconds: float | None) -> bool:
        """Return whether a checkpoint is due by age, or because the last attempt failed.

        It is not while one is being written. A failed attempt is repeated after RETRY_SECONDS.

        Args:
            seconds: greatest age of the last checkpoint; None: no checkpoint is due by age.
        """
        if self._thread is not None and self._thread.is_alive():
            return False
        now = time.perf_counter()
        if self.failure is not None:
            return now - self._failed_at >= RETRY_SECONDS
        return seconds is not None and now - self._taken_at >= seconds

    def news(self) -> list[str]:
        """Return messages for the user since the last call."""
        told, self._untold = self._untold, []
        return told

    def _write(self, snapshot: Snapshot) -> None:
        began = time.perf_counter()
        try:
            self.make_ready()
            write_snapshot(
                self.folder,
                snapshot,
                keep=self.keep,
                before_rename=self.before_rename,
                warn=lambda text: self._untold.append(f"warning: {text}"),
            )
        except (OSError, Damaged) as error:
            self.failure, self._failed_at = error, time.perf_counter()
            self._untold.append(self._told(snapshot.step, error))
        except BaseException as error:
            self._bug = error
        else:
            self.failure, self.saved_step = None, snapshot.step
        self.seconds = time.perf_counter() - began

    def _told(self, step: int, error: OSError | Damaged) -> str:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        newest = newest_step(self.folder)
        kept = "there is none yet" if newest is None else f"{step_folder(newest)} is kept"
        return f"warning: the checkpoint of step {step:,} is not saved ({why}); {kept}"
