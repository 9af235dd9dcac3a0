"""Preparing a text on a disk that forgets: all states that a power cut can leave, and going on."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from crashing_disk import Recording, Site, write_tree
from kill_while_preparing import STORIES, content, small_notes
from making import names

from fastlm.data import prepare
from fastlm.files import destination, notes, resumed
from fastlm.files.tokens import TokenWriter


def small_corpus(
    folder: Path, set_attribute: Callable[[object, str, object], object]
) -> list[Path]:
    """Write a text in a folder, with blocks and notes so small that it has many; no disk is waited for."""
    small_notes(set_attribute)
    set_attribute(notes, "NOTE_BYTES", 3000)
    set_attribute(os, "fsync", lambda handle: None)
    folder.mkdir()
    (folder / "a.txt").write_text("<|endoftext|>".join(STORIES[:12]))
    return [folder / "a.txt"]


@contextlib.contextmanager
def counted_writes() -> Iterator[list[int]]:
    """Collect the number of ids that each call of TokenWriter.write is given."""
    counts: list[int] = []
    write = TokenWriter.write

    def counting(self, ids):
        counts.append(len(ids))
        return write(self, ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TokenWriter, "write", counting)
        yield counts


class Promised(NamedTuple):
    n_ids: int
    """that a note tells of"""
    is_whole: bool = False


def after_a_crash(
    corpus: list[Path], folder: Path, forget: Callable[[Site], bool] = lambda site: False
) -> Recording:
    """Record all that a power cut at any moment can leave, as test_power_loss.py does."""

    def promising(part: resumed.ResumedFolder, note: dict) -> None:
        write_note(part, note)
        n_ids = sum(split["written"].n_ids for split in note["splits"].values())
        recording.promise(Promised(n_ids))

    write_note = resumed.ResumedFolder.write_note
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resumed.ResumedFolder, "write_note", promising)
        with Recording(folder, forget) as recording:
            prepare(corpus, folder / "d", vocab_size=300, val_fraction=0.4, shard_tokens=2500)
            recording.promise(Promised(0, is_whole=True))
    return recording


def check_states(recording: Recording, corpus: list[Path], whole: dict, folder: Path) -> int:
    """Go on from each of these states; returns how many there are."""
    n_all = sum(len(raw) // 2 for name, raw in whole.items() if name.endswith(".bin"))
    seen = set()
    for promised, found in recording.moments:
        for tree in found.after_a_crash():
            state = (promised, json.dumps(tree, default=bytes.hex))
            if state in seen:
                continue
            seen.add(state)
            write_tree(tree, folder)
            try:
                if promised is not None and promised.is_whole:
                    assert content(folder / "d") == whole
                    continue
                with counted_writes() as n_written:
                    prepare(
                        corpus, folder / "d", vocab_size=300, val_fraction=0.4, shard_tokens=2500
                    )
                assert content(folder / "d") == whole
                assert sum(n_written) <= n_all - (promised.n_ids if promised else 0)
                # A note may outlive its folder, to be removed when that is made anew or swept.
                assert set(names(folder)) <= {"d", f"{destination.NOTE}d"}
            finally:
                shutil.rmtree(folder)
    return len(seen)
