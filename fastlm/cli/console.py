"""Progress of a training run on standard error: a live line, or plain lines without a terminal."""

import io
import sys
from typing import TextIO, cast

from rich.console import Console
from rich.live import Live
from rich.text import Text

from fastlm.cli.streams import ToleratedStream


def standard_error() -> TextIO:
    """Standard error, on which writing never fails, in a process that has no cli.run() too."""
    return cast(TextIO, ToleratedStream(sys.stderr or io.StringIO()))


class StatusLine:
    """A status line that is overwritten on a terminal; elsewhere each update is a new line.

    Args:
        is_shown: False to print nothing.
    """

    def __init__(self, *, is_shown: bool = True) -> None:
        self.console = Console(
            file=standard_error(), highlight=False, soft_wrap=True, quiet=not is_shown
        )
        self.live: Live | None = None

    def __enter__(self) -> "StatusLine":
        # A dumb terminal cannot redraw a line.
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self.live = Live(console=self.console, auto_refresh=False, transient=True)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def update(self, text: str) -> None:
        """Show the current status."""
        if self.live is None:
            self.say(text)
        else:
            self.live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.console.print(text, markup=False)
