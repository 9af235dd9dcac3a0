"""Standard output and standard error of a command, whatever they are connected to.

A pipe that is no longer read, a full disk or a closed terminal must not end work that makes files,
and a terminal that lacks a character must not end a text.
"""

import contextlib
import errno
import io
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, TextIO, cast

from fastlm.files.nowhere import Nowhere, open_closed_streams, point_to_nowhere
from fastlm.files.paths import spell

_FULL = (errno.ENOSPC, errno.EDQUOT)


class OutputLostError(Exception):
    """Standard output is lost, so that a command that only prints may end."""


class ToleratedStream:
    """A text stream on which writing never fails: text that cannot be written is dropped.

    All other attributes are those of the stream, but for `buffer`, which raises OutputLostError.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | ValueError | None = None
        """The error of the first write that failed."""

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, call: Callable[[], object]) -> None:
        try:
            call()
        except (OSError, ValueError) as error:  # a closed stream raises a ValueError
            if isinstance(error, UnicodeError):
                raise
            self.lose(error)

    def lose(self, error: OSError | ValueError) -> None:
        """Note the first error; unless a disk is full for now, drop everything from now on."""
        self.failure = self.failure or error
        if getattr(error, "errno", None) not in _FULL:
            self.drop()

    def drop(self) -> None:
        """Drop what is written from now on, also what other code writes to the descriptor."""
        with contextlib.suppress(OSError, ValueError):  # a stream in memory has no descriptor
            point_to_nowhere(self._stream.fileno())

    @property
    def buffer(self) -> "_Bytes":
        return _Bytes(self, self._stream.buffer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Bytes:
    """The stream of bytes below a text stream."""

    def __init__(self, text: ToleratedStream, stream: BinaryIO) -> None:
        self._text, self._stream = text, stream

    def write(self, raw: bytes) -> int:
        try:
            return self._stream.write(raw)
        except (OSError, ValueError) as error:
            self._text.lose(error)
            raise OutputLostError from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def tolerated() -> Iterator[None]:
    """Inside the block, no write to standard output or standard error raises an error.

    Characters that the encoding of a stream lacks are escaped. Warnings are shown as one line.
    """
    before = sys.stdout, sys.stderr, warnings.showwarning
    open_closed_streams()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or io.TextIOWrapper(Nowhere(), encoding="utf-8")
        if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, cast(TextIO, ToleratedStream(stream)))
    if not sys.warnoptions:  # who asks for warnings wants all of them, with their places
        warnings.showwarning = _show_warning
    ours = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout, sys.stderr, warnings.showwarning = before
        for stream in ours:
            if isinstance(stream, ToleratedStream) and stream.failure is not None:
                stream.drop()  # Python flushes it once more


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    for_developers = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning)
    if not issubclass(category, (*for_developers, ResourceWarning)):
        line = next((line for line in str(message).splitlines() if line.strip()), "")
        print(f"warning: {spell(line.strip())}", file=sys.stderr)


def output_failure() -> OSError | ValueError | None:
    """The error of the first write to standard output that failed, None while it works."""
    return getattr(sys.stdout, "failure", None)


def print_now(text: str) -> None:
    """Write text to standard output without delay.

    Raises:
        OutputLostError: if it cannot be written, now or before.
    """
    sys.stdout.write(text)
    sys.stdout.flush()
    if (failure := output_failure()) is not None:
        raise OutputLostError from failure
