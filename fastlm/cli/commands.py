"""The table of all commands of `fastlm VERB`.

A command is a module that `python -m` can run: `fastlm train` and `python -m fastlm.train` are the
same. Slow imports come after the flags are parsed, so that --help and a mistyped flag are answered
at once: a command line (fastlm.train.command) is a module apart from its work (fastlm.train.run).
"""

import runpy
import sys
from importlib import import_module
from typing import NamedTuple, NoReturn

from fastlm import __version__, cli
from fastlm.cli import interrupts

PROGRAM = "fastlm"


class Command(NamedTuple):
    """One command.

    Attributes:
        module: name below fastlm of the module that `python -m` runs.
        arguments: name below fastlm of the module whose ARGUMENTS define the command line: a
            dataclass, a function, or a dict of functions where a second word chooses one.
        summary: line in the overview.
    """

    module: str
    arguments: str
    summary: str


COMMANDS = {
    "train": Command("train", "train.command", "train a model, or resume a run"),
    "data": Command("data", "data.__main__", "turn texts into token files"),
    "corpus": Command("corpus", "corpus.__main__", "make or download text"),
    "tokenizer": Command(
        "tokenizer", "tokenizer.__main__", "train tokenizers, encode, decode, measure"
    ),
    "evaluate": Command("evaluate", "evaluate.__main__", "validation loss of a run"),
    "generate": Command("generate", "generate.__main__", "continue a prompt with a trained model"),
    "export": Command("export", "export.__main__", "write a model for transformers or tiktoken"),
    "import": Command(
        "imports", "imports.__main__", "convert models, tokens and tokenizers of other tools"
    ),
    "accounting": Command(
        "accounting", "accounting.__main__", "parameters, FLOPs, memory and time of a recipe"
    ),
    "tune": Command("tune", "tune.__main__", "measure which settings train fastest here"),
    "sweep": Command("sweep", "sweep.__main__", "train many configurations and compare them"),
    "report": Command("report", "report.__main__", "one page of all runs, with charts"),
    "records": Command("records", "records", "keep the record of a run"),
    "doctor": Command("doctor", "doctor", "check this machine, and say what to fix"),
    "sgd-toy": Command("sgd_toy", "sgd_toy", "a toy problem: which learning rates SGD survives"),
    "completion": Command("cli.completion", "cli.completion", "tab completion for bash, zsh, fish"),
}


def main() -> NoReturn:
    """The command line of fastlm: `fastlm VERB ...`."""
    interrupts.exit_on_interrupt()
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        cli.run(lambda: print(overview()))
    if words[0] == "--version":
        cli.run(lambda: print(f"{PROGRAM} {__version__}"))
    verb = words[0].replace("_", "-")
    if verb not in COMMANDS:
        cli.run(lambda: _refuse(words[0]))
    sys.argv[:] = [f"{PROGRAM} {verb}", *words[1:]]
    runpy.run_module(f"fastlm.{COMMANDS[verb].module}", run_name="__main__")
    sys.exit(0)


def _refuse(word: str) -> NoReturn:
    """Raise the error for a word that is no command, but may be the second word of some."""
    nested = []
    for verb, command in COMMANDS.items():
        arguments = import_module(f"fastlm.{command.arguments}").ARGUMENTS
        if isinstance(arguments, dict) and word in arguments:
            nested.append(f"{PROGRAM} {verb} {word}")
    if nested:
        raise cli.BadArguments(f"unknown command {word!r}; did you mean {' or '.join(nested)}?")
    raise cli.BadArguments(cli.unknown("command", word, COMMANDS))


def overview() -> str:
    """List all verbs, one per line."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            f"usage: {PROGRAM} VERB ...",
            "",
            "From raw text to a trained language model on one GPU.",
            "",
            *(f"  {verb:{width}}  {command.summary}" for verb, command in COMMANDS.items()),
            "",
            f"{PROGRAM} VERB --help lists its flags; {PROGRAM} --version prints the version.",
        ]
    )
