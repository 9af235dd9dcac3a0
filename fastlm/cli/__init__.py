"""Shared by all commands: typed arguments, one-line errors, exit codes.

Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted.
"""

import contextlib
import difflib
import functools
import inspect
import io
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO, TypeVar

from fastlm.cli import streams
from fastlm.cli.default_types import answer_without_typeguard
from fastlm.cli.hints import hint
from fastlm.cli.interrupts import INTERRUPTED as INTERRUPTED
from fastlm.cli.interrupts import raising
from fastlm.files.paths import spell

T = TypeVar("T")

FAILED = 1
BAD_INPUT = 2

LEAST_COLUMNS = 20
"""Width of the narrowest help page; with only a few columns, tyro never returns"""
_ALL_FLAGS_COLUMNS = 200  # wide enough that no flag is split across lines

_FRAME = re.compile(r"[─│╭╮╰╯]")
_EMPTY = re.compile(
    r"no type matching .* could be instantiated from \[''\]"
    r"|Could not find valid parse for arguments: \[''\]"
)

_UNEXPANDED = re.compile(
    r"(?:no type matching .* could be instantiated from|Could not find valid parse for arguments:)"
    r" \[.*'(~[^']*)'.*\]"
)


class BadArguments(ValueError):
    """The command line is invalid; str() is one line."""


def parse(
    schema: Callable[..., T],
    argv: Sequence[str] | None,
    *,
    text_flag: str | None = None,
    **options: Any,
) -> T:
    """Parse the command line into a dataclass, or call a function with it.

    Args:
        schema: a dataclass, or a function with annotated parameters, by tyro's rules.
        argv: arguments without the program's name; None means sys.argv.
        text_flag: the flag of a value that users give as a word of its own, for the message.
        options: passed to tyro.cli (prog, default, description ...).
    Raises:
        BadArguments: if the arguments are invalid; names the nearest known flag.
    """
    import tyro

    parsed = _one_line(
        lambda: tyro.cli(_deferred(schema), args=argv, registry=_registry(), **options),
        lambda message: hint(message, _words(argv), _flags(schema, options), text_flag),
    )
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
        lambda: tyro.cli(
            schema, args=argv, return_unknown_args=True, registry=_registry(), **options
        )
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

    arguments = _words(argv)
    if arguments and not arguments[0].startswith("-") and arguments[0] not in commands:
        raise BadArguments(unknown("command", arguments[0], commands))
    deferred = {name: _deferred(command) for name, command in commands.items()}

    def meant(message: str) -> str:
        command = commands.get(arguments[0]) if arguments else None
        return hint(message, arguments, _flags(command, {}), None) if command else ""

    return _one_line(
        lambda: tyro.extras.subcommand_cli_from_dict(
            deferred, args=arguments, registry=_registry(), **options
        ),
        meant,
    )()


def _words(argv: Sequence[str] | None) -> list[str]:
    return list(sys.argv[1:] if argv is None else argv)


def _flags(schema: Callable[..., Any], options: dict[str, Any]) -> list[str]:
    """All flags of a command, from its help."""
    import tyro

    page = io.StringIO()
    with (
        _columns(_ALL_FLAGS_COLUMNS),
        contextlib.redirect_stdout(page),
        contextlib.suppress(SystemExit),
    ):
        tyro.cli(_deferred(schema), args=["--help"], registry=_registry(), **options)
    return list(dict.fromkeys(re.findall(r"--[a-z][\w.-]*", page.getvalue())))


@functools.cache
def _registry() -> Any:
    """Rules for the types of arguments: a path is never empty.

    An empty word, as from a shell's unset variable, would be the current folder.
    """
    import tyro

    answer_without_typeguard()
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def path_rule(
        kind: tyro.constructors.PrimitiveTypeInfo,
    ) -> tyro.constructors.PrimitiveConstructorSpec[Path] | None:
        if kind.type is not Path:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="PATH",
            instance_from_str=lambda words: Path(named_path(words[0])),
            is_instance=lambda value: isinstance(value, Path),
            str_from_instance=lambda value: [str(value)],
        )

    return registry


def named_path(text: str) -> str:
    """Return the text of a path.

    Raises:
        ValueError: if it is empty, or begins with a ~ that the shell has left for us to expand.
    """
    if not text:
        raise ValueError("expected a path, got an empty word")
    home = os.path.expanduser(text)
    if home != text and not os.path.lexists(text.partition("/")[0]):
        raise ValueError(
            f"the shell has not expanded {text}: give {pasted(home)}, or ./{text} if it is meant so"
        )
    return text


def program(verb: str, module: str | None = None) -> str:
    """The command as the user typed it: `fastlm train` or `python -m fastlm.train`.

    Args:
        module: name of the command's module below fastlm, if it differs from the verb.
    """
    typed = f"fastlm {verb}"
    if sys.argv[0] == typed:
        return typed
    return f"python -m fastlm.{module or verb.replace('-', '_')}"


def command_line(module: str, *words: object) -> str:
    """The command of a module of fastlm with its words, as a user can paste it into a shell.

    A Path is never taken for a flag: that of a folder -x is ./-x.

    >>> command_line("train", "--data", "my data")
    "python -m fastlm.train --data 'my data'"
    """
    return f"python -m fastlm.{module} {pasted(*words)}".rstrip()


def pasted(*words: object) -> str:
    """Words as a user can paste them into a shell: ("--out", "my run") -> "--out 'my run'".

    Characters that would break or colour the line are escaped, as bash and zsh read it: $'a\\n'.
    """
    return " ".join(_quoted(_word(word)) for word in words)


def _quoted(word: str) -> str:
    if spell(word) == word:
        return shlex.quote(word)
    escaped = (
        "\\" * (character in "\\'") + character
        if spell(character) == character
        else "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
        for character in word
    )
    return "$'" + "".join(escaped) + "'"


def say(line: str, *, file: TextIO | None = None) -> None:
    """Print a line for the user, with escapes for what would break or colour it: names of files.

    Args:
        file: standard output if not given.
    """
    print(spell(line), file=file)


def _word(word: object) -> str:
    is_like_flag = isinstance(word, Path) and str(word).startswith("-")
    return f".{os.sep}{word}" if is_like_flag else str(word)


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Error message for an unknown name, with the nearest known one."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
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


@contextlib.contextmanager
def _columns(least: int) -> Iterator[None]:
    """Inside `with`, help and messages are at least so many columns wide."""
    if shutil.get_terminal_size().columns >= least:
        yield
        return
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(least)
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _one_line(call: Callable[[], T], meant: Callable[[str], str] = lambda message: "") -> T:
    """Call a parser; its message becomes one line, with what the user probably meant."""
    panel = io.StringIO()
    try:
        with _columns(LEAST_COLUMNS), contextlib.redirect_stderr(panel):
            return call()
    except SystemExit as stop:
        if stop.code == BAD_INPUT and panel.getvalue():
            message, nearest = _flatten(panel.getvalue())
            raise BadArguments(f"{message}; {meant(message) or nearest}") from None
        raise


def _flatten(panel: str) -> tuple[str, str]:
    """Return the error in tyro's framed message, and the nearest known option, each in a line."""
    sections: list[str] = [""]
    for line in panel.splitlines()[1:]:
        text = _FRAME.sub("", line).strip()
        if not text:
            sections.append("")
        else:
            sections[-1] = f"{sections[-1]} {text}".strip()
    message = _EMPTY.sub("expected a value, got an empty word", sections[0].rstrip("."))
    message = _UNEXPANDED.sub(r"the shell has not expanded \1: give the path it means", message)
    nearest = next((s for s in sections[1:] if s.startswith("Perhaps you meant")), "")
    flag = re.search(r"--[\w.-]+", nearest)
    return message, f"did you mean {flag.group()}?" if flag else "--help lists all flags"


def run(main: Callable[[], object]) -> NoReturn:
    """Run a command's main and exit with its exit code.

    Errors a user can fix (bad values, missing files, unwritable folders) become one line on
    standard error and exit code 2. Any other exception is a bug and keeps its traceback. Output
    that cannot be written never ends the work: a pipe that is no longer read is no error, and any
    other failure of standard output is told at the end, with exit code 1.
    """
    with streams.tolerated():
        code = _exit_code(main)
        sys.stdout.flush()
        sys.stderr.flush()
        failure = streams.output_failure()
        if failure is not None and not isinstance(failure, BrokenPipeError):
            reason = getattr(failure, "strerror", None) or failure
            print(f"error: standard output cannot be written: {reason}", file=sys.stderr)
            code = code or FAILED
    sys.exit(code)


def _exit_code(main: Callable[[], object]) -> int | str | None:
    try:
        with raising():
            check_current_folder()
            main()
    except SystemExit as left:
        return left.code
    except streams.OutputLostError:
        return 0  # run() tells why, unless a pipe is no longer read
    except (ValueError, OSError) as error:
        return report_error(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def check_current_folder() -> None:
    """Check that the current folder, where relative paths begin, is still there.

    Libraries of numbers end the process in its absence.

    Raises:
        FileNotFoundError: if it was removed.
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        raise FileNotFoundError(
            "the current folder was removed: change to one that is there, such as with cd"
        ) from None


def report_error(error: Exception) -> int:
    """Print an error as one line on standard error and return the exit code for bad input."""
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        text = f"{error.strerror}{where}"
    else:
        text = str(error)
    say("error: " + " ".join(text.split()), file=sys.stderr)
    return BAD_INPUT
