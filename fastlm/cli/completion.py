"""Tab completion of `fastlm VERB --flags` in bash, zsh and fish.

eval "$(python -m fastlm.cli.completion bash)"

tyro generates the scripts from the commands' arguments. They are self-contained: pressing Tab does
not start fastlm.
"""

from fastlm.cli import interrupts

if __name__ == "__main__":
    interrupts.exit_on_interrupt()

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

# tyro's functions complete nothing for an empty word or a word that is not a flag; here such words
# are folders of runs, data and texts, so files are completed.
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
    """Completion script of a shell for all commands and their flags."""
    verbs = {verb: import_module(f"fastlm.{c.arguments}").ARGUMENTS for verb, c in COMMANDS.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "script"
        try:
            tyro.cli(
                _choice(verbs),
                prog=PROGRAM,
                args=["--tyro-write-completion", shell, str(path)],
            )
        except SystemExit as end:  # tyro exits after it has written the script
            if end.code:
                raise
        written = path.read_text(encoding="utf-8")
    # tyro's script prints one line per completion with its help text, which may have several lines.
    lines = re.sub(r"^COMPLETION_SPEC = .*$", _one_line_helps, written, flags=re.MULTILINE)
    return lines + _OR_FILES[shell]


def _one_line_helps(spec: re.Match[str]) -> str:
    return re.sub(r"\\+n", " ", spec.group())


def _choice(verbs: dict[str, Any]) -> Any:
    """A type that tyro turns into a choice of subcommands; a dict becomes a nested choice."""
    members = []
    for verb, arguments in verbs.items():
        if isinstance(arguments, dict):
            arguments = _with_choice(_choice(arguments))
        members.append(Annotated[Any, tyro.conf.subcommand(name=verb, constructor=arguments)])
    # A union of one member would not be a choice.
    return Union[(*members, Annotated[None, tyro.conf.Suppress])]


def _with_choice(choice: Any) -> Callable[..., Any]:
    def chosen(command: Any) -> Any:
        return command

    chosen.__annotations__["command"] = Annotated[choice, tyro.conf.arg(name="")]
    return chosen


def _print_script(shell: Positional[Shell]) -> None:
    """Print the tab completion script of a shell.

    bash: add eval "$(fastlm completion bash)" to ~/.bashrc. zsh: fastlm completion zsh >
    ~/.zfunc/_fastlm, in a folder of fpath. fish: fastlm completion fish >
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
