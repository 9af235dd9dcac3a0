"""Sweeps whose runs are not trained."""

import pytest
from swept_runs import planned, record

from fastlm.sweep import __main__ as sweep
from fastlm.sweep.results import read_result


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """Names of the runs that would be trained; nothing is."""
    names: list[str] = []
    monkeypatch.setattr(
        sweep, "run_all", lambda runs, *_, **__: names.extend(run.name for run in runs) or set()
    )
    return names


@pytest.fixture
def rates(tmp_path):
    """Rates 1 to 1,000: learning, better, ending above its first loss, not finite."""
    runs = planned(["optim.lr=1,10,100,1000"])
    record(tmp_path / runs[0].name, [6.0, 5.0, 4.5])
    record(tmp_path / runs[1].name, [6.0, 4.0, 3.0])
    record(tmp_path / runs[2].name, [6.0, 9.0, 6.5])
    record(tmp_path / runs[3].name, [6.0], finished=False, bad_at=7)
    return [read_result(r, tmp_path / r.name) for r in runs]
