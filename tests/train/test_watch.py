"""Steps that are not finite are not applied, and spikes are told, without waiting for the device."""

import dataclasses
import json
import math
import statistics
import time
from pathlib import Path

import pytest
import torch
from short_runs import config, interrupted_after, new_run, same, train_rows
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fastlm.checkpoint import read_newest, read_run_checkpoint, run_checkpoints
from fastlm.checkpoint import saver as saver_module
from fastlm.config import OptimConfig
from fastlm.optim import SGD, AdaGrad, AdamW
from fastlm.optim.muon import Muon, NorMuon
from fastlm.optim.rows import RowAdaGrad
from fastlm.runs.record import RunRecord, write_json
from fastlm.runs.run_files import RunFiles
from fastlm.runs.state import state_of
from fastlm.train import run as train_module
from fastlm.train import train
from fastlm.train.trainer import StepGuard, Trainer
from fastlm.train.watch import HISTORY, Diverged, Watch

CPU = torch.device("cpu")
OPTIMIZERS = {
    "SGD": lambda p: SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    "AdaGrad": lambda p: AdaGrad(p, 0.1, weight_decay=0.1),
    "AdamW": lambda p: AdamW(p, 0.1, weight_decay=0.1),
    "Muon": lambda p: Muon(p, 0.1, weight_decay=0.1, cautious=True),
    "NorMuon": lambda p: NorMuon(p, 0.1, weight_decay=0.1),
}


def stepped(make, gates, seed: int = 0) -> tuple:
    """Parameters and state after steps; a gate of False has gradients that are not finite."""
    g = torch.Generator().manual_seed(seed)
    params = [nn.Parameter(torch.randn(shape, generator=g)) for shape in ((4, 6), (6, 4), (4, 6))]
    optimizer = make(params)
    for gate in gates:
        for p in params:
            p.grad = torch.randn(p.shape, generator=g)
            if gate is False:
                p.grad[0, 0] = math.nan
                p.grad[1, 1] = math.inf
        optimizer.step(applies=None if gate is None else torch.tensor(gate))
    return [p.detach().clone() for p in params], optimizer


def tensors_of(optimizer) -> list:
    return [
        {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}
        for state in optimizer.state.values()
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("n_before", [0, 3])
def test_a_step_that_is_held_back_changes_nothing(name, n_before, monkeypatch):
    before, optimizer = stepped(OPTIMIZERS[name], [True] * n_before)
    held, held_optimizer = stepped(OPTIMIZERS[name], [True] * n_before + [False])
    assert same(before, held)
    if n_before:
        assert same(tensors_of(optimizer), tensors_of(held_optimizer))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_that_applies_is_the_usual_one(name):
    plain, _ = stepped(OPTIMIZERS[name], [None] * 5)
    gated, _ = stepped(OPTIMIZERS[name], [True] * 5)
    for a, b in zip(plain, gated, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)  # other orders of rounding


def test_gradients_are_zeroed_once_and_in_place():
    """A step on condition makes no copy of a gradient."""
    made = []

    class Copies(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            result = function(*arguments, **(options or {}))
            if function is torch.ops.aten.where.self and result.shape == (4, 6):
                made.append(function)
            return result

    p = nn.Parameter(torch.ones(4, 6))
    p.grad = torch.full((4, 6), math.nan)
    optimizer = AdamW([p], 0.1, weight_decay=0.1)
    with Copies():
        optimizer.step(applies=torch.tensor(False))
    assert made == []
    assert torch.equal(p.grad, torch.zeros(4, 6))
    assert torch.equal(p.detach(), torch.ones(4, 6))


@pytest.mark.parametrize("gate", [True, False])
def test_rows_are_held_back_too(gate):
    table = nn.Parameter(torch.ones(5, 3))
    optimizer = RowAdaGrad([table], 0.1)
    optimizer.add([torch.tensor([1, 1])], [torch.full((2, 3), 1.0 if gate else math.nan)])
    optimizer.step(applies=torch.tensor(gate))
    assert torch.equal(table.detach(), torch.ones(5, 3)) is not gate
    assert table.isfinite().all()
    assert optimizer.state[table]["square_sum"].isfinite().all()


def look(watch: Watch, losses, norms=None, *, max_skipped: int = 0):
    """Show a watch these losses; which steps apply, and what the watch tells."""
    norms = norms or [1.0] * len(losses)
    guard = StepGuard(CPU, max_skipped)
    gates = [
        bool(guard.record(i + 1, 8 * i, 0, torch.tensor(loss), torch.tensor(norm)))
        for i, (loss, norm) in enumerate(zip(losses, norms, strict=True))
    ]
    return gates, watch.read(guard.take_unread())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["loss", "norm"])
def test_after_one_step_too_many_nothing_is_applied(bad, where):
    values = [1.0, 1.0, bad, 1.0, bad, 1.0]
    losses = values if where == "loss" else [1.0] * 6
    norms = values if where == "norm" else None
    for max_skipped, expected in ((0, 2), (1, 4), (2, 6)):
        gates, steps = look(Watch(), losses, norms, max_skipped=max_skipped)
        assert gates == [i < expected and math.isfinite(v) for i, v in enumerate(values)]
        assert [step.number for step in steps if not step.is_finite] == [3, 5]
        assert [step.first_window for step in steps] == [8 * i for i in range(6)]


def test_spikes_are_six_sigma_above_the_last_128_steps():
    g = torch.Generator().manual_seed(0)
    noise = (torch.randn(400, generator=g) * 0.1).tolist()
    losses = [5 - 0.01 * i + x for i, x in enumerate(noise)]
    assert not [s for s in look(Watch(), losses)[1] if s.sigmas]
    before = [float(torch.tensor(loss)) for loss in losses[300 - HISTORY : 300]]
    mean, sigma = statistics.fmean(before), statistics.stdev(before)
    for sigmas, expected in ((5.9, []), (6.1, [301]), (-7.0, [])):
        watch = Watch()
        spiked = [*losses[:300], mean + sigmas * sigma, *losses[300:330]]
        steps = look(watch, spiked)[1]
        assert [step.number for step in steps if step.sigmas] == expected
        assert watch.n_spikes == len(expected)
        for step in steps:
            assert step.sigmas is None or step.sigmas == pytest.approx(6.1, rel=1e-3)


def test_no_loss_of_the_first_steps_is_a_spike():
    assert not [s for s in look(Watch(), [1.0, 1.1] * 15 + [99.0])[1] if s.sigmas]


def test_a_watch_goes_on_where_another_stopped():
    g = torch.Generator().manual_seed(0)
    losses = [*(3 + torch.randn(200, generator=g)).tolist(), 30.0]
    whole, first, second = Watch(), Watch(), Watch()
    expected = look(whole, losses)[1]
    look(first, losses[:150])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    steps = look(second, losses[150:])[1]
    assert [s.sigmas for s in steps] == [s.sigmas for s in expected[150:]]
    assert second.state_dict() == whole.state_dict()
    assert expected[-1].sigmas is not None


def poison(steps, where: str, monkeypatch) -> None:
    """Make loss or one gradient of these steps not finite."""
    original = Trainer.train_step

    def step(self, stream, **place):
        number = self.step + 1
        plain = self.loss
        if number in steps:
            weight = self.parameters[-1]

            def bad(inputs, targets):
                loss = plain(inputs, targets)
                if where == "loss":
                    return loss * math.nan
                return loss + (weight.flatten()[0] - weight.detach().flatten()[0]).sqrt()

            self.loss = bad
        try:
            return original(self, stream, **place)
        finally:
            self.loss = plain

    monkeypatch.setattr(Trainer, "train_step", step)


EVERY_STEP = {"checkpoint_every": 1, "checkpoint_keep": 30}


@pytest.fixture(scope="module")
def checkpoints(data, tmp_path_factory) -> Path:
    """Checkpoints of all steps of a run without fault."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(config(data, **EVERY_STEP), run)
    return run / "checkpoints"


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize(("bad", "log_every"), [(8, 5), (10, 5), (8, 1)])
def test_a_step_that_is_not_finite_ends_the_run_with_weights_as_before(
    where, bad, log_every, data, checkpoints, tmp_path, monkeypatch
):
    run_config = config(data, log_every=log_every, **EVERY_STEP)
    poison({bad}, where, monkeypatch)
    trainers = []
    monkeypatch.setattr(
        train_module, "loop", lambda run, status, loop=train_module.loop: (
            trainers.append(run.trainer), loop(run, status)
        )[1]
    )  # fmt: skip
    with pytest.raises(Diverged, match=f"not finite at step {bad}: that step was not applied") as e:
        train(run_config, tmp_path / "run")
    assert e.value.step.number == bad
    saved = run_checkpoints(tmp_path / "run/checkpoints")
    assert read_newest(tmp_path / "run/checkpoints", pytest.fail).step == bad - 1
    for path in saved:
        twin = read_run_checkpoint(checkpoints / path.name)
        assert same(read_run_checkpoint(path).model, twin.model)
    ours = trainers[0].model.state_dict()
    before = read_run_checkpoint(saved[-1]).model
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.items())
    (row,) = [row for row in RunRecord(tmp_path / "run").rows() if row["kind"] == "not finite"]
    assert (row["step"], row["first_window"]) == (bad, 8 * (bad - 1))
    told = json.loads((tmp_path / f"run/not-finite-step-{bad}.json").read_text())
    assert (told["step"], told["seed"], len(told["window_starts"])) == (bad, 0, 8)
    stream = new_run(run_config, tmp_path / "other").trainer.stream(8 * (bad - 1))
    tokens = trainers[0].data.train.tokens
    for start, window in zip(told["window_starts"], next(stream)[0].tolist(), strict=True):
        assert tokens[start : start + len(window)].tolist() == window
    assert set(told["parameters"]) == {name for name, _ in trainers[0].model.named_parameters()}
    assert all(part["weight"]["n_not_finite"] == 0 for part in told["parameters"].values())


def test_a_run_that_diverges_keeps_the_checkpoint_that_was_being_written(
    data, tmp_path, monkeypatch
):
    poison({8}, "loss", monkeypatch)
    write = saver_module.write_snapshot

    def slowly(folder, snapshot, **settings):
        if snapshot.step == 7:
            time.sleep(1)
        write(folder, snapshot, **settings)

    monkeypatch.setattr(saver_module, "write_snapshot", slowly)
    with pytest.raises(Diverged):
        train(config(data, log_every=1, checkpoint_every=7), tmp_path / "run")
    assert read_newest(tmp_path / "run/checkpoints", pytest.fail).step == 7


def test_steps_are_left_out_as_often_as_asked(data, tmp_path, monkeypatch, capsys):
    poison({7, 12}, "gradient", monkeypatch)
    summary = train(config(data, max_skipped_steps=2), tmp_path / "run")
    assert summary.step == 20
    rows = RunRecord(tmp_path / "run").rows()
    assert [row["step"] for row in rows if row["kind"] == "not finite"] == [7, 12]
    assert "step 12: skipped: not finite" in capsys.readouterr().err
    assert all(math.isfinite(row["loss"]) for row in train_rows(tmp_path / "run"))
    with pytest.raises(Diverged, match="not finite at step 12"):
        train(config(data, max_skipped_steps=1), tmp_path / "other")


def test_of_several_steps_the_first_that_cannot_be_left_out_is_named(data, tmp_path, monkeypatch):
    """This holds even if the steps are checked only at the run's end."""
    poison({12, 18}, "gradient", monkeypatch)
    run_config = config(data, max_skipped_steps=1, max_steps=19, log_every=50, checkpoint_every=50)
    with pytest.raises(Diverged, match="not finite at step 18"):
        train(run_config, tmp_path / "run")
    assert (tmp_path / "run/not-finite-step-18.json").is_file()


def test_a_rate_that_is_too_large_ends_in_one_line(data, tmp_path, capsys):
    optim = OptimConfig(
        name="sgd", lr=1e30, max_grad_norm=float("inf"), warmup_fraction=0.6, schedule="constant"
    )
    with pytest.raises(Diverged, match=r"step \d+.*smaller --optim.lr"):
        train(config(data, optim=optim), tmp_path / "run")
    assert list((tmp_path / "run").glob("not-finite-step-*.json"))


def check_diverged(run: Path, step: int, capsys) -> None:
    """Its last good checkpoint is before the step, and all that it leaves says so."""
    saved = read_newest(run / "checkpoints", pytest.fail)
    assert saved.step < step
    assert all(tensor.isfinite().all() for tensor in saved.model.values())
    assert state_of(run).name == "diverged"
    assert not RunFiles(run).summary.exists()
    for path in (*run.glob("*.json"), *run.glob("*.jsonl")):
        for line in [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines():
            json.loads(line, parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    assert f"{step} steps, " in (told := capsys.readouterr().err)
    assert "; stopped by divergence" in told


def break_update(number: int, monkeypatch) -> None:
    """Let the update of a step leave a weight that is not finite; its gradients are."""
    original = Trainer.update

    def update(self, applies):
        original(self, applies)
        if self.step + 1 == number:
            with torch.no_grad():
                self.parameters[-1].view(-1)[0] = math.nan

    monkeypatch.setattr(Trainer, "update", update)


@pytest.mark.parametrize("bad", [10, 20])
def test_weights_that_an_update_breaks_are_not_saved(bad, data, tmp_path, monkeypatch, capsys):
    """At a checkpoint on the way, and after the last step, which no other step follows."""
    break_update(bad, monkeypatch)
    with pytest.raises(Diverged, match=f"the weights are not finite after step {bad}: .*--optim"):
        train(config(data, eval_every=50), tmp_path / "run")
    check_diverged(tmp_path / "run", bad, capsys)


@pytest.mark.parametrize(
    ("broken", "what"),
    [("state", "the optimizer's state is"), ("average", "the average of the weights is")],
)
def test_a_state_that_an_update_breaks_is_not_saved(
    broken, what, data, tmp_path, monkeypatch, capsys
):
    """The weights are finite: those of a later step would not be, or would stay as they are."""
    original = Trainer.train_step

    def step(self, stream, **place):
        result = original(self, stream, **place)
        if self.step == 20:
            state = self.optimizers[-1].state[self.optimizers[-1].param_groups[0]["params"][0]]
            moment = next(value for value in state.values() if isinstance(value, torch.Tensor))
            (self.average.means[0] if broken == "average" else moment).view(-1)[0] = math.inf
        return result

    monkeypatch.setattr(Trainer, "train_step", step)
    optim = dataclasses.replace(config(data).optim, average_tail=0.2)
    with pytest.raises(Diverged, match=f"{what} not finite after step 20"):
        train(config(data, optim=optim, eval_every=50), tmp_path / "run")
    check_diverged(tmp_path / "run", 20, capsys)


def test_weights_that_are_broken_when_a_signal_comes_are_not_saved(
    data, tmp_path, monkeypatch, capsys
):
    break_update(9, monkeypatch)
    with pytest.raises(Diverged, match="the weights are not finite after step 9"):
        interrupted_after(9, config(data), tmp_path / "run")
    check_diverged(tmp_path / "run", 9, capsys)


@pytest.mark.parametrize(("number", "step"), [(2, 10), (4, 20)])
def test_a_validation_that_is_not_finite_is_a_divergence(
    number, step, data, tmp_path, monkeypatch, capsys
):
    evaluate, n_calls = Trainer.evaluate, 0

    def infinite(self, *args):
        nonlocal n_calls
        n_calls += 1
        result = evaluate(self, *args)
        return dataclasses.replace(result, loss=math.inf) if n_calls == number else result

    monkeypatch.setattr(Trainer, "evaluate", infinite)
    with pytest.raises(Diverged, match=f"the validation loss is not finite after step {step}"):
        train(config(data, checkpoint_every=7), tmp_path / "run")
    check_diverged(tmp_path / "run", step, capsys)
    aside = [path.name for path in (tmp_path / "run/checkpoints").glob("abandoned-*")]
    assert aside == (["abandoned-step-000020"] if step == 20 else [])


def test_a_run_all_of_whose_steps_were_skipped_is_not_finished(data, tmp_path, monkeypatch):
    poison({1, 2}, "loss", monkeypatch)
    with pytest.raises(Diverged, match="loss or gradients of all steps are not finite"):
        train(config(data, max_steps=2, max_skipped_steps=9), tmp_path / "run")
    assert state_of(tmp_path / "run").name == "diverged"


def test_numbers_that_are_not_finite_are_null_in_files(tmp_path):
    values = {"a": [math.nan, {"b": -math.inf}], "c": (1.5, None), "d": math.inf}
    clean = {"a": [None, {"b": None}], "c": [1.5, None], "d": None}
    write_json(tmp_path / "summary.json", values)
    RunRecord(tmp_path).log({"step": 1, **values})
    assert json.loads((tmp_path / "summary.json").read_text()) == clean
    assert RunRecord(tmp_path).rows() == [{"step": 1, **clean}]


def test_the_number_of_steps_left_out_is_not_negative(data):
    with pytest.raises(ValueError, match="max_skipped_steps must be at least 0: got -1"):
        dataclasses.replace(config(data), max_skipped_steps=-1)
