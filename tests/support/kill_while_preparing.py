"""python tests/support/kill_while_preparing.py FOLDER N SEED: preparing is killed, N times.

After each kill another process goes on, until one comes to the end: what it has made has to be what
an uninterrupted one makes. Prints how many processes went on, and how many came to the end. A
process of its own, since it forks.
"""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fastlm.corpus import documents
from fastlm.corpus.stories import generate_stories
from fastlm.data import prepare
from fastlm.files import notes
from fastlm.tokenizer import pieces
from fastlm.tokenizer.bpe import blocks

STORIES = list(generate_stories(seed=0, n_bytes=25_000))


def small_notes(set_attribute: Callable[[object, str, object], object]) -> None:
    """Make pieces, blocks and the text between two notes so small that a small text has many."""
    defaults = documents.iter_pieces.__kwdefaults__ | {"piece_characters": 300, "block_bytes": 256}
    set_attribute(documents.iter_pieces, "__kwdefaults__", defaults)
    for module in (pieces, blocks):
        set_attribute(module, "BLOCK_BYTES", 400)
    set_attribute(notes, "NOTE_BYTES", 900)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def start(text: Path, out: Path) -> tuple[int, int]:
    """Prepare in another process; return its number and what it tells."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        prepare(text, out, vocab_size=300, say=lambda line: os.write(writing, line.encode()))
        os._exit(0)
    os.close(writing)
    return child, reading


def main() -> None:
    folder, n_kills, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    small_notes(setattr)
    os.fsync = lambda handle: None  # what is written survives the process all the same
    text, out = folder / "text.txt", folder / "run" / "d"
    text.write_text("<|endoftext|>".join(STORIES))
    whole = content(prepare(text, folder / "whole", vocab_size=300))
    began = time.perf_counter()
    os.waitpid(start(text, folder / "forked")[0], 0)
    seconds = time.perf_counter() - began  # a forked process is slower than its parent
    assert content(folder / "forked") == whole
    n_resumed = n_finished = 0
    for _ in range(n_kills):
        child, reading = start(text, out)
        time.sleep(rng.random() * seconds)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        n_resumed += os.read(reading, 9) == b"going on "
        os.close(reading)
        if out.exists():
            assert content(out) == whole
            n_finished += 1
            shutil.rmtree(folder / "run")
        assert status in (0, signal.SIGKILL), status
    assert content(prepare(text, out, vocab_size=300)) == whole
    assert [path.name for path in out.parent.iterdir()] == ["d"]
    print(n_resumed, n_finished)


if __name__ == "__main__":
    main()
