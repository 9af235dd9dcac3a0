"""The memory of preparing does not grow with the text: soak_data.py does the same with 2 GB."""

from pathlib import Path
from random import Random

import pytest
from peak_memory import END, peak_bytes, shuffled

from fastlm.corpus.stories import generate_stories
from fastlm.data import open_prepared

MEGABYTE = 1_000_000


def write_text(path: Path, n_bytes: int) -> Path:
    """Write a text whose first half is many documents and whose second half is a single one."""
    documents = [story.encode() for story in generate_stories(seed=0, n_bytes=MEGABYTE)]
    rng = Random(0)
    with open(path, "wb") as out:
        for end in (END, b"\n"):
            for number in shuffled(documents, n_bytes // 2, rng):
                out.write(documents[number] + end)
    return path


@pytest.mark.slow
def test_four_times_the_text_takes_no_more_memory(tmp_path):
    peaks = []
    for n_megabytes in (12, 48):
        path = write_text(tmp_path / f"{n_megabytes}.txt", n_megabytes * MEGABYTE)
        out = tmp_path / f"d-{n_megabytes}"
        words = ["-m", "fastlm.data", "prepare", path, "--vocab-size", 1000, "--out", out]
        peaks.append(peak_bytes(*words)[0])
        data = open_prepared(out)
        text_bytes = data.train.text_bytes + data.val.text_bytes
        assert 0.9 < text_bytes / path.stat().st_size <= 1
    # One peak varies by up to 30 MB; a document of 12 MB read in one piece took more than 100 MB.
    assert peaks[1] - peaks[0] < 33 * MEGABYTE


def test_token_files_are_checked_in_memory_that_does_not_grow_with_them(tmp_path):
    peaks = []
    for n_tokens in (5_000_000, 100_000_000):
        path = tmp_path / f"{n_tokens}.bin"
        with open(path, "wb") as file:
            file.truncate(2 * n_tokens)
        code = (
            "from pathlib import Path; from fastlm.files.tokens import open_token_file\n"
            f"open_token_file(Path({str(path)!r}), dtype='uint16', count={n_tokens}, sha256='', "
            "vocab_size=1)"
        )
        peaks.append(peak_bytes("-c", code)[0])
    assert peaks[1] - peaks[0] < 20 * MEGABYTE
