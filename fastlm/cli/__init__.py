"""Shared by all commands: typed arguments, one-line errors, exit codes.

This module imports nothing of fastlm. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted.
"""

import contextlib
import difflib
import functools
import inspect
import io
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

BAD_INPUT = 2
INTERRUPTED = 130

_FRAME = re.compile(r"[─│╭╮╰╯]")


class BadArguments(ValueError):
    """The command line is invalid; str() is one line."""


def parse(schema: Callable[..., T], argv: Sequence[str] | None, **options: Any) -> T:
    """Parse the command line into a dataclass, or call a function with it.

    Args:
        schema: a dataclass, or a function with annotated parameters, by tyro's rules.
        argv: arguments without the program's name; None means sys.argv.
        options: passed to tyro.cli (prog, default, description ...).
    Raises:
        BadArguments: if the arguments are invalid; names the nearest known flag.
    """
    import tyro

    parsed = _one_line(lambda: tyro.cli(_deferred(schema), args=argv, **options))
    return parsed() if isinstance(parsed, functools.partial) else parsed


def parse_known(
    schema: Callable[..., T], argv: Sequence[str] | None, **options: Any
) -> tuple[T, list[str]]:
    """Like parse, but also return the flags that are not in the schema, with their values.

    Raises:
        BadArguments: as parse does.
    """
    import tyro

    known, others = _one_line(
        lambda: tyro.cli(schema, args=argv, return_unknown_args=True, **options)
    )
    return known, others


def run_command(
    commands: dict[str, Callable[..., T]], argv: Sequence[str] | None, **options: Any
) -> T:
    """Call the function that the first argument names with the arguments after it.

    Raises:
        BadArguments: as parse does.
    """
    import tyro

    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and not arguments[0].startswith("-") and arguments[0] not in commands:
        raise BadArguments(unknown("command", arguments[0], commands))
    deferred = {name: _deferred(command) for name, command in commands.items()}
    return _one_line(
        lambda: tyro.extras.subcommand_cli_from_dict(deferred, args=arguments, **options)
    )()


def program(verb: str, module: str | None = None) -> str:
    """The command as the user typed it: `fastlm train` or `python -m fastlm.train`.

    Args:
        module: name of the command's module below fastlm, if it differs from the verb.
    """
    typed = f"fastlm {verb}"
    if sys.argv[0] == typed:
        return typed
    return f"python -m fastlm.{module or verb.replace('-', '_')}"


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Error message for an unknown name, with the nearest known one."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(names)}"
    return f"unknown {kind} {name!r}; {hint}"


def _deferred(command: Callable[..., T]) -> Callable[..., Any]:
    """Make tyro return the call instead of running it, so that only tyro's output is captured."""
    if inspect.isclass(command):
        return command

    @functools.wraps(command)
    def build(*args: Any, **kwargs: Any) -> Callable[[], T]:
        return functools.partial(command, *args, **kwargs)

    return build


def _one_line(call: Callable[[], T]) -> T:
    panel = io.StringIO()
    try:
        with contextlib.redirect_stderr(panel):
            return call()
    except SystemExit as stop:
        if stop.code == BAD_INPUT and panel.getvalue():
            raise BadArguments(_flatten(panel.getvalue())) from None
        raise


def _flatten(panel: str) -> str:
    """Turn tyro's framed message into one line: the error, then the nearest known option."""
    sections: list[str] = [""]
    for line in panel.splitlines()[1:]:
        text = _FRAME.sub("", line).strip()
        if not text:
            sections.append("")
        else:
            sections[-1] = f"{sections[-1]} {text}".strip()
    message = sections[0].rstrip(".")
    nearest = next((s for s in sections[1:] if s.startswith("Perhaps you meant")), "")
    flag = re.search(r"--[\w.-]+", nearest)
    hint = f"; did you mean {flag.group()}?" if flag else "; --help lists all flags"
    return message + hint


def run(main: Callable[[], object]) -> NoReturn:
    """Run a command's main and exit with its exit code.

    Errors a user can fix (bad values, missing files, unwritable folders) become one line on
    standard error and exit code 2. Any other exception is a bug and keeps its traceback.
    """
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(report_error(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    sys.exit(0)


def report_error(error: Exception) -> int:
    """Print an error as one line on standard error and return the exit code for bad input."""
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        text = f"{error.strerror}{where}"
    else:
        text = str(error)
    print("error: " + " ".join(text.split()), file=sys.stderr)
    return BAD_INPUT
