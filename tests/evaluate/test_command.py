"""The command evaluate: what it refuses."""

import pytest

from fastlm.evaluate.__main__ import main


@pytest.mark.parametrize(
    ("flag", "size", "message"),
    [
        ("--batch-size", "-1", "batch_size must be at least 1: got -1"),
        ("--batch-size", "0", "batch_size must be at least 1: got 0"),
        ("--context-length", "0", r"context_length must lie in \[1, \d+\]: got 0"),
    ],
)
def test_a_size_below_one_is_refused(finished, flag, size, message):
    run, _ = finished
    with pytest.raises(ValueError, match=f"^{message}$"):
        main([str(run), flag, size])
