"""Completion of `fastlm VERB --flags` in bash, zsh and fish.

eval "$(python -m fastlm.cli.completion bash)"

tyro makes the scripts from what the commands take. They hold all they need: a Tab starts no fastlm.
"""

import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import tyro
from tyro.conf import Positional

from fastlm import cli
from fastlm.cli.commands import COMMANDS, PROGRAM

Shell = Literal["bash", "zsh", "fish"]

# tyro's functions have nothing for words that are no flags, or an empty word: they name folders of
# runs, data and texts here.
_OR_FILES = {
    "bash": f"""
_{PROGRAM}_or_files() {{
  _tyro_{PROGRAM} "$@"
  if [[ -z "${{COMPREPLY[0]}}" ]]; then COMPREPLY=(); fi
}}
complete -o default -F _{PROGRAM}_or_files {PROGRAM}
""",
    "zsh": "\n(( compstate[nmatches] )) || _files\n",
    "fish": f"""
function _{PROGRAM}_has_nothing
    not string match --quiet -- (commandline -ct)"*" "" (_tyro_{PROGRAM})
end
complete --command {PROGRAM} --condition _{PROGRAM}_has_nothing --force-files
""",
}


def script(shell: Shell) -> str:
    """What a shell has to read to complete the commands of the table and their flags."""
    verbs = {verb: import_module(f"fastlm.{c.arguments}").ARGUMENTS for verb, c in COMMANDS.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "script"
        try:
            tyro.cli(
                _choice(verbs),
                prog=PROGRAM,
                args=["--tyro-write-completion", shell, str(path)],
            )
        except SystemExit as end:  # which it does when it has written
            if end.code:
                raise
        written = path.read_text(encoding="utf-8")
    # tyro's program prints a line for each completion, with its help, which may have several.
    lines = re.sub(r"^COMPLETION_SPEC = .*$", _one_line_helps, written, flags=re.MULTILINE)
    return lines + _OR_FILES[shell]


def _one_line_helps(spec: re.Match[str]) -> str:
    return re.sub(r"\\+n", " ", spec.group())


def _choice(verbs: dict[str, Any]) -> Any:
    """A type of which tyro makes a choice among subcommands; a dict is one of its own."""
    members = []
    for verb, arguments in verbs.items():
        if isinstance(arguments, dict):
            arguments = _with_choice(_choice(arguments))
        members.append(Annotated[Any, tyro.conf.subcommand(name=verb, constructor=arguments)])
    # With one member there would be nothing to choose.
    return Union[(*members, Annotated[None, tyro.conf.Suppress])]


def _with_choice(choice: Any) -> Callable[..., Any]:
    def chosen(command: Any) -> Any:
        return command

    chosen.__annotations__["command"] = Annotated[choice, tyro.conf.arg(name="")]
    return chosen


def _print_script(shell: Positional[Shell]) -> None:
    """Print what a shell has to read to complete fastlm's commands.

    bash: add eval "$(fastlm completion bash)" to ~/.bashrc. zsh: fastlm completion zsh >
    ~/.zfunc/_fastlm, a folder of fpath. fish: fastlm completion fish >
    ~/.config/fish/completions/fastlm.fish.

    Args:
        shell: bash, zsh or fish.
    """
    sys.stdout.write(script(shell))


ARGUMENTS = _print_script


def main(argv: Sequence[str] | None = None) -> None:
    """The command line of fastlm.cli.completion."""
    cli.parse(ARGUMENTS, argv, prog=cli.program("completion", "cli.completion"))


if __name__ == "__main__":
    cli.run(main)
