"""Guesses of the meaning of words that no flag takes."""

import re
import shlex
from collections.abc import Sequence

_TRUTHS = {"true": True, "yes": True, "on": True, "1": True}
_TRUTHS |= {"false": False, "no": False, "off": False, "0": False}

_ELSEWHERE = {
    "--learning-rate": "--optim.lr",
    "--block-size": "--model.context-length",
    "--seq-len": "--model.context-length",
    "--max-seq-len": "--model.context-length",
    "--n-embd": "--model.d-model",
    "--hidden-size": "--model.d-model",
    "--num-layers": "--model.n-layers",
    "--per-device-train-batch-size": "--batch-size",
}
"""Flags of other trainers, and what they are here"""


def hint(message: str, words: Sequence[str], flags: Sequence[str], text_flag: str | None) -> str:
    """Return what to do about a message on unrecognized words; empty if nothing is known.

    Args:
        message: the parser's message in one line.
        words: the command line.
        flags: all flags of the command.
        text_flag: the flag of a value that users give as a word of its own.
    """
    unrecognized = message.partition("Unrecognized options: ")[2]
    if not unrecognized:
        return ""
    listed = unrecognized.split(", ")
    known = set(flags)
    for before, word in zip(["", *words], [*words, ""], strict=True):
        flag, equals, value = word.partition("=")
        switch = flag.replace("_", "-") if equals else before.replace("_", "-")
        given = value if equals else word
        truth = _TRUTHS.get(given.lower())
        if truth is not None and given in listed and _off(switch) in known:
            return (
                f"{switch} takes no value: {'leave that out' if truth else f'give {_off(switch)}'}"
            )
    for word in listed:
        if not word.startswith("--"):
            continue
        flag = word.partition("=")[0].replace("_", "-")
        meant = [m for m in [_ELSEWHERE.get(flag)] if m in known] or _nested(flag, flags)
        if meant and flag not in known:
            return f"did you mean {' or '.join(meant)}?"
    texts = [word for word in words if word and word in listed]
    if text_flag is not None and texts and not any(word.startswith("-") for word in listed):
        return f"give that after its flag: {text_flag} {shlex.quote(' '.join(texts))}"
    return ""


def _off(flag: str) -> str:
    """--model.qk-norm -> --model.no-qk-norm."""
    section, _, name = flag.removeprefix("--").rpartition(".")
    return f"--{section}.no-{name}" if section else f"--no-{name}"


def _nested(flag: str, flags: Sequence[str]) -> list[str]:
    """The flags of sections that have the name of this one: --lr -> --optim.lr."""
    name = re.escape(flag.removeprefix("--").rpartition(".")[2])
    return [known for known in flags if re.fullmatch(rf"--[\w.-]+\.{name}", known)]
