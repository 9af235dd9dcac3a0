"""A run that is resumed after any step ends as one that was never stopped."""

import pytest
from resumed_runs import N_STEPS, OPTIM, UNTIED, check_every_step, logged, without_clocks
from short_runs import config, same

from fastlm.checkpoint import Damaged, read_newest, read_run_checkpoint, run_checkpoints
from fastlm.devices import hardware
from fastlm.train import train


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, (1, 10, 19)),
        ({"micro_batch": 2}, (11,)),
        ({"optim": OPTIM, "model": UNTIED, "micro_batch": 4}, (12, 15)),
    ],
    ids=["float32", "accumulated", "leaderboard's optimizers"],
)
def test_resumed_after_any_step_a_run_ends_as_if_never_stopped(changes, steps, data, tmp_path):
    """soak_runs.py takes every step."""
    check_every_step(steps, data, tmp_path, **changes)


@pytest.mark.slow
def test_resumed_in_bfloat16(data, tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: True)
    check_every_step((10,), data, tmp_path, bf16=True, micro_batch=4)


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.usefixtures("without_code_generation")
def test_resumed_compiled_and_deterministic(data, tmp_path):
    check_every_step((9,), data, tmp_path, compile=True, deterministic=True)


def test_deterministic_runs_are_alike_but_for_their_clocks(data, tmp_path):
    run_config = config(data, deterministic=True, log_every=1, optim=OPTIM, model=UNTIED)
    for name in ("a", "b"):
        train(run_config, tmp_path / name)
    assert logged(tmp_path / "a") == logged(tmp_path / "b")
    first, second = (
        read_run_checkpoint(run_checkpoints(tmp_path / name / "checkpoints")[-1]) for name in "ab"
    )
    assert same(without_clocks(first), without_clocks(second))


def test_a_damaged_checkpoint_is_passed_over_unless_it_was_asked_for(data, tmp_path, capsys):
    run_config, run = config(data), tmp_path / "run"
    train(run_config, run)
    *_, before, newest = run_checkpoints(run / "checkpoints")
    raw = bytearray((newest / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (newest / "model.safetensors").write_bytes(raw)
    (run / "summary.json").unlink()
    with pytest.raises(Damaged, match=rf"{newest.name}/model\.safetensors is damaged"):
        train(run_config, run, resume=newest)
    assert newest.exists()
    capsys.readouterr()
    assert train(run_config, run, resume=True).finished
    told = capsys.readouterr().err
    assert f"warning: {newest}/model.safetensors is damaged" in told
    assert "taking the checkpoint before it" in told
    assert f"resumed at step {read_run_checkpoint(before).step}" in told
    assert read_newest(run / "checkpoints", pytest.fail).step == N_STEPS
    assert (run / "checkpoints" / f"abandoned-{newest.name}").exists()
