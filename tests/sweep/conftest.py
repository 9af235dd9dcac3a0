"""Sweeps whose runs are not trained."""

import pytest

from fastlm.sweep import __main__ as sweep


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """Names of the runs that would be trained; nothing is."""
    names: list[str] = []
    monkeypatch.setattr(
        sweep, "run_all", lambda runs, *_, **__: names.extend(run.name for run in runs) or set()
    )
    return names
