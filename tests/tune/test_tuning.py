"""Searches with real steps of tiny networks: the file they write, their ends, and planted faults."""

import dataclasses
import json
import signal
import time
from pathlib import Path

import pytest
import torch
from commands import TINY, check_refused
from torch import Tensor

from fastlm import cli, functional
from fastlm.config import ModelConfig, OptimConfig, TrainConfig
from fastlm.files import disk
from fastlm.ops import Ops, reference_ops, torch_ops
from fastlm.train import assemble
from fastlm.train.assemble import set_up
from fastlm.train.micro_batch import plan_memory
from fastlm.train.tuned import Choices, default_file, read_tuned, take_tuned
from fastlm.tune import candidate, tuning
from fastlm.tune.__main__ import main
from fastlm.tune.alternatives import Alternative
from fastlm.tune.candidate import Candidate, look_around
from fastlm.tune.made_tokens import made_data
from fastlm.tune.same_losses import difference
from fastlm.tune.search import KEPT, NO_TIME, TimeUp
from fastlm.tune.tuning import alarm, search_for, task

CPU = torch.device("cpu")
WORDS = ["--recipe", "tiny", *TINY]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """The folder of the files; blocks of steps are short."""
    monkeypatch.setenv("FASTLM_TUNED_DIR", str(tmp_path / "tuned"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(candidate, "BLOCK_SECONDS", 1e-3)
    return tmp_path / "tuned"


def only(monkeypatch: pytest.MonkeyPatch, *changes: dict) -> None:
    """Let these be the alternatives."""
    ways = [Alternative(f"way {i}", f"way {i}", change) for i, change in enumerate(changes, 1)]
    monkeypatch.setattr(
        tuning, "dimensions", lambda *_, **__: [lambda present, way=way: [way] for way in ways]
    )


def verdicts(path: Path) -> dict[str, str]:
    return {row["what"]: row["verdict"] for row in read_tuned(path).measured["tried"]}


def test_a_search_of_a_tiny_network_is_written_and_found_by_training(cache, capfd):
    n_threads = torch.get_num_threads()
    main([*WORDS, "--no-compile", "--no-bf16", "--minutes", "1"])
    out, told = capfd.readouterr()
    (path,) = cache.iterdir()
    rows = verdicts(path)
    assert "micro-batch 2" in rows
    assert not [verdict for verdict in rows.values() if verdict.startswith("left out")]
    for what in rows:
        assert f"| {what} |" in out
        assert f"{what}: " in told
    assert "the present choice: " in told
    (fastest,) = [line for line in out.splitlines() if line.startswith("fastest: ")]
    assert fastest.startswith(f"fastest: {cli.command_line('train', *WORDS, '--no-compile')}")
    assert out.endswith(f"written to {path}: fastlm.train uses it by itself\n")
    assert read_tuned(path).measured["finished"] is True
    assert torch.get_num_threads() == n_threads

    # The same flags of fastlm.train find it.
    asked = tuning.task(tuning_config(), {"compile", "bf16"}).config
    assert default_file(tuning._conditions(asked)) == path
    taken = take_tuned(asked, set_up(asked)).config
    made = read_tuned(path).choices.made
    assert {name: getattr(taken, name) for name in made} == made


def tuning_config() -> TrainConfig:
    from fastlm.train.command import configuration

    return configuration(WORDS)


@pytest.mark.usefixtures("without_code_generation")
def test_compilation_is_tried_and_named_as_a_flag(cache, monkeypatch, capfd):
    """A planted fast one: it is said to take half the time."""
    monkeypatch.setattr(
        Candidate, "seconds", lambda self: 1.0 if self._trainer.config.compile else 2.0
    )
    only(monkeypatch, {"compile": True})
    main([*WORDS, "--no-bf16"])
    out, _ = capfd.readouterr()
    (path,) = cache.iterdir()
    assert verdicts(path) == {"way 1": KEPT, "all of them": KEPT}
    assert f"fastest: {cli.command_line('train', *WORDS, '--no-bf16', '--compile')}" in out
    assert read_tuned(path).conditions.how == {"compile": True, "dtype": "float32", "fp8": False}
    # Without the flag a run stays as it is, and says why.
    asked = dataclasses.replace(tuning.task(tuning_config(), {"compile"}).config, bf16=False)
    taken = take_tuned(asked, set_up(asked))
    assert taken.config == asked
    assert "was measured with compile true, and this is false" in taken.note


CONFIG = TrainConfig(
    recipe="test",
    model=ModelConfig(
        vocab_size=64, context_length=16, n_layers=1, d_model=32, n_heads=2, logit_softcap=5.0
    ),
    optim=OptimConfig(name="muon"),
    batch_size=8,
    max_steps=1,
    device="cpu",
)


class TooSteep(torch.autograd.Function):
    """The identity, with a gradient that is a quarter too large."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return 1.25 * gradient


def without_mask(q, k, v, mask=None, *, is_causal=False):
    return functional.attention(q, k, v, mask)


def without_scale(q, k, v, mask=None, *, is_causal=False):
    return torch_ops.attention(4 * q, k, v, mask, is_causal=is_causal)


def without_softcap(hidden, weight, targets, *, softcap=None, **options):
    return torch_ops.linear_cross_entropy(hidden, weight, targets, **options)


def with_steep_gradient(x, *weights):
    return TooSteep.apply(torch_ops.swiglu(x, *weights))


def with_small_steps(*tensors, lr, **options):
    torch_ops.adamw(*tensors, lr=0.25 * lr, **options)


PLANTED = {
    "no mask": torch_ops._replace(attention=without_mask),
    "no scale": torch_ops._replace(attention=without_scale),
    "no softcap": torch_ops._replace(linear_cross_entropy=without_softcap),
    "a gradient": torch_ops._replace(swiglu=with_steep_gradient),
    "an optimizer": torch_ops._replace(adamw=with_small_steps),
}


def built(config: TrainConfig, ops: Ops, monkeypatch: pytest.MonkeyPatch) -> Candidate:
    monkeypatch.setattr(assemble, "load_ops", lambda *_, **__: ops)
    return Candidate(config, made_data(config), look_around(config))


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_shows_in_the_losses(fault, bf16, monkeypatch):
    config = dataclasses.replace(CONFIG, bf16=bf16)
    monkeypatch.setattr("fastlm.devices.hardware.cpu_has_bf16", lambda: True)
    dtype = "bfloat16" if bf16 else "float32"
    right = built(config, torch_ops, monkeypatch).first_steps
    wrong = built(config, PLANTED[fault], monkeypatch).first_steps
    assert difference(right, wrong, dtype)


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
def test_other_ways_to_compute_the_same_have_the_same_losses(bf16, monkeypatch):
    config = dataclasses.replace(CONFIG, bf16=bf16)
    monkeypatch.setattr("fastlm.devices.hardware.cpu_has_bf16", lambda: True)
    dtype = "bfloat16" if bf16 else "float32"
    reference = built(config, torch_ops, monkeypatch).first_steps
    for ops, changes in (
        (reference_ops, {}),
        (torch_ops, {"micro_batch": 2}),
        (torch_ops, {"threads": 1}),
        (torch_ops, {"checkpoint_activations": True}),
    ):
        other = dataclasses.replace(config, **changes)
        assert difference(reference, built(other, ops, monkeypatch).first_steps, dtype) == ""
    halved = dataclasses.replace(config, bf16=True, optimizer_dtype="bfloat16")
    steps = built(halved, torch_ops, monkeypatch).first_steps
    assert difference(reference, steps, "bfloat16") == ""


def test_a_search_refuses_wrong_losses_and_tells_what_fails(monkeypatch):
    tables = {"none": PLANTED["no mask"], "auto": torch_ops}

    def load(triton_ops, *_, **__):
        if triton_ops == "all":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return tables[triton_ops]

    monkeypatch.setattr(assemble, "load_ops", load)
    only(monkeypatch, {"triton_ops": "none"}, {"triton_ops": "all"}, {"triton_ops": "quick"})
    search, _ = search_for(task(CONFIG, {"compile", "bf16"}), deadline=time.perf_counter() + 60)
    told = {row.what: row.verdict for row in search.rows}
    assert told["way 1"].startswith("left out: loss of step 1 is")
    assert told["way 2"] == (
        "left out: OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    )
    assert told["way 3"] == "left out: KeyError: 'quick'"
    assert search.found == search.asked
    assert search.is_finished


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_it_with_what_is_known(name, cache, monkeypatch, capfd):
    """The first alternative is kept; the signal comes while the second one is built."""
    only(monkeypatch, {"threads": 1}, {"micro_batch": 1})
    build = Candidate.__init__

    def signalled(self, config, *rest):
        if config.micro_batch == 1:
            signal.raise_signal(signal.Signals[name])
        build(self, config, *rest)

    monkeypatch.setattr(Candidate, "__init__", signalled)
    monkeypatch.setattr(Candidate, "seconds", lambda self: 2.0 / (2 + self._n_threads % 2))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(SystemExit) as left:
        main([*WORDS, "--no-compile", "--no-bf16"])
    assert left.value.code == 128 + signal.Signals[name]
    _, told = capfd.readouterr()
    assert f"stopped by {name}" in told
    (path,) = cache.iterdir()
    tuned = read_tuned(path)
    assert tuned.choices == Choices(threads=1)
    assert tuned.measured["finished"] is False


def test_the_alarm_ends_what_takes_too_long(cache, monkeypatch, capfd):
    with pytest.raises(TimeUp), alarm(0.01):
        time.sleep(60)
    only(monkeypatch, {"micro_batch": 1}, {"micro_batch": 2})
    build = Candidate.__init__

    def slow(self, config, *rest):
        build(self, config, *rest)
        if config.micro_batch == 1:
            signal.setitimer(signal.ITIMER_REAL, 0.01)  # as if the time were up
            time.sleep(60)

    monkeypatch.setattr(Candidate, "__init__", slow)
    main([*WORDS, "--no-compile", "--no-bf16"])
    (path,) = cache.iterdir()
    assert verdicts(path) == {"way 1": NO_TIME}
    assert "not all was tried" in capfd.readouterr().out


def test_without_a_single_step_nothing_is_written(cache, monkeypatch, capfd):
    monkeypatch.setattr(Candidate, "__init__", lambda *_: time.sleep(30))
    with pytest.raises(SystemExit) as left:
        main([*WORDS, "--no-compile", "--no-bf16", "--minutes", "0.001"])
    assert left.value.code == cli.FAILED
    assert "no step was measured in 0.001 minutes: nothing is written" in capfd.readouterr().err
    assert not cache.exists()


def test_a_file_of_ones_own_is_not_replaced_unless_asked_for(tmp_path, data, monkeypatch, capfd):
    path = tmp_path / "mine.json"
    path.write_text("{}")
    words = [*WORDS, "--data", str(data), "--no-compile", "--no-bf16", "--out", str(path)]
    check_refused(lambda: main(words), f"{path} is there", capfd)
    only(monkeypatch)
    main([*words, "--overwrite"])
    assert f"fastlm.train uses it with --tuned {path}" in capfd.readouterr().out
    assert json.loads(path.read_text())["work"]["network"]["vocab_size"] == 400


def test_a_file_that_another_call_will_write_is_refused_at_once(tmp_path, capfd):
    path = tmp_path / "mine.json"
    with disk.locked(path):
        check_refused(lambda: main([*WORDS, "--out", str(path)]), "process", capfd)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["train.bin", "meta.json"])
def test_what_is_read_is_not_written(name, data, capfd):
    before = (data / name).read_bytes()
    words = [*WORDS, "--data", str(data), "--out", str(data / name), "--overwrite"]
    check_refused(lambda: main(words), "is read and would be written", capfd)
    assert (data / name).read_bytes() == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--minutes", "0"], "minutes must be above 0, and at most 10,000: got 0"),
        (["--minutes", "inf"], "minutes must be above 0, and at most 10,000: got inf"),
        (["--minutes", "1e12"], "minutes must be above 0, and at most 10,000: got 1e+12"),
        (["--resume", "out/x"], "--resume is for fastlm.train: leave it out here"),
        (["--profile"], "--profile is for fastlm.train: leave it out here"),
        (["--data", "missing"], "missing"),
        (["--recipe", "tinny"], "did you mean tiny?"),
        (["--triton-ops", "quick"], "quick"),
    ],
)
def test_bad_arguments_are_refused_in_a_line(words, told, capfd):
    check_refused(lambda: main([*TINY, *words]), told, capfd)


def test_a_micro_batch_that_fits_only_alone_is_left_to_training(monkeypatch):
    """Eight windows fit, but not beside the state of another network."""
    needed = plan_memory(dataclasses.replace(CONFIG, micro_batch=8), CPU, bf16=False).needed
    monkeypatch.setattr(candidate, "usable_memory", lambda config, device: needed)
    config = dataclasses.replace(CONFIG, threads=1, optimizer_dtype="float32")
    told: list[str] = []
    one = task(config, {"compile", "bf16"})
    search, _ = search_for(one, deadline=time.perf_counter() + 60, say=told.append)
    assert "micro-batches of 8 fit only one network at a time: those of" in told[0]
    assert search.rows == []
    assert search.found.micro_batch == "auto"
    assert search.is_finished


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="a single process: leave out torchrun"):
        main(WORDS)


def test_made_tokens_are_of_the_vocabulary_and_can_be_learned():
    config = dataclasses.replace(CONFIG, batch_size=4)
    tokens = made_data(config).train.tokens
    assert len(tokens) > 1 << 16
    assert tokens.min() == 0
    assert tokens.max() == 63
    follow = (7 * tokens[:-1].astype(int) + 1) % 64 == tokens[1:]
    assert follow.mean() > 0.25
