"""The command line of fastlm.corpus, which makes or downloads texts to train on.

A text is files that fastlm.corpus.documents reads, one or a folder of them.

    python -m fastlm.corpus stories --out data/stories
    python -m fastlm.corpus tinystories --out data/tinystories
    python -m fastlm.corpus owt --out data/owt
"""

from fastlm.cli import interrupts

if __name__ == "__main__":
    interrupts.exit_on_interrupt()

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fastlm import cli
from fastlm.cli.meter import Meter
from fastlm.corpus.generated import make_stories


def _stories(
    out: Path,
    seed: int = 0,
    n_bytes: int = 10_000_000,
    valid_bytes: int = 200_000,
    overwrite: bool = False,
) -> None:
    """Make children's stories; needs no network.

    Args:
        out: folder for train.txt, valid.txt and corpus.json.
        seed: another seed, other stories.
        n_bytes: size of train.txt.
        valid_bytes: size of valid.txt.
        overwrite: replace files of these names, such as stories of other arguments.
    """
    make_stories(out, seed=seed, n_bytes=n_bytes, valid_bytes=valid_bytes, replace=overwrite)


def _tinystories(out: Path, base_url: str | None = None) -> None:
    """Download TinyStories (GPT-4 part, 2.2 GB).

    Args:
        out: folder for train.txt, valid.txt and sources.json.
        base_url: address of a mirror, in place of https://huggingface.co/datasets; when not given,
            that in FASTLM_MIRROR, or HF_ENDPOINT with /datasets after it.
    """
    _fetch("tinystories", out, base_url)


def _owt(out: Path, base_url: str | None = None) -> None:
    """Download and unpack the CS336 sample of OpenWebText (4.5 GB packed, 12 GB unpacked).

    Args:
        out: folder for train.txt, valid.txt and sources.json.
        base_url: address of a mirror, in place of https://huggingface.co/datasets; when not given,
            that in FASTLM_MIRROR, or HF_ENDPOINT with /datasets after it.
    """
    _fetch("owt", out, base_url)


def _fetch(name: str, out: Path, base_url: str | None) -> None:
    # Slow imports come after the flags are parsed.
    from fastlm.corpus.datasets import fetch_dataset

    url = _mirror(base_url, os.environ)
    with Meter() as meter:
        fetch_dataset(name, out, base_url=url, on_progress=meter.in_bytes(name))


def _mirror(base_url: str | None, environment: Mapping[str, str]) -> str:
    """Return the address of data sets: flag, FASTLM_MIRROR, HF_ENDPOINT or default, in this order.

    An empty variable counts as unset.

    Raises:
        ValueError: if it is no address; the message says where it was set.
    """
    from fastlm.corpus.datasets import BASE_URL

    mirror, endpoint = environment.get("FASTLM_MIRROR"), environment.get("HF_ENDPOINT")
    if base_url is not None:
        name, url = "--base-url", base_url
    elif mirror:
        name, url = "FASTLM_MIRROR", mirror
    elif endpoint:
        name, url = "HF_ENDPOINT", endpoint
    else:
        return BASE_URL
    if not re.match("https?://.", url):
        raise ValueError(
            f"{name} must be the http:// or https:// address of a mirror: got {url!r}; mend it, or "
            f"leave it out to download from {BASE_URL}"
        )
    if name == "HF_ENDPOINT":
        url = url.rstrip("/") + "/datasets"
    if name != "--base-url":
        cli.say(f"from {url}, as {name} says", file=sys.stderr)
    return url


ARGUMENTS: dict[str, Callable[..., None]] = {
    "stories": _stories,
    "tinystories": _tinystories,
    "owt": _owt,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line of fastlm.corpus."""
    cli.run_command(
        ARGUMENTS,
        argv,
        prog=cli.program("corpus"),
        description="Make or download a text to train on: OUT/train.txt and OUT/valid.txt.",
    )


if __name__ == "__main__":
    cli.run(main)
