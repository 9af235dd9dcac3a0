"""A power cut while a text is prepared loses nothing that a note told of."""

import sys

import pytest
from crashed_preparing import after_a_crash, check_states, small_corpus
from kill_while_preparing import content


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/fd")
def test_a_power_cut_at_any_moment_loses_nothing_that_was_noted(tmp_path, monkeypatch):
    """soak_data.py leaves out each flush, which has to be noticed."""
    corpus = small_corpus(tmp_path / "text", monkeypatch.setattr)
    recording = after_a_crash(corpus, tmp_path / "disk")
    whole = content(tmp_path / "disk" / "d")
    n_states = check_states(recording, corpus, whole, tmp_path / "after")
    print(f"{n_states} states at {len(recording.moments)} moments")
    assert n_states > 150  # mixes of what train.bin and val.bin have lost are among them
