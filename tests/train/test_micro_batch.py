"""Runs on cards of a few sizes: tokens a step kept, memory used, and what cannot fit refused."""

import contextlib
import dataclasses

import pytest
import short_runs
import torch

from fastlm import cli
from fastlm.accounting import training_memory
from fastlm.config import TrainConfig
from fastlm.config.recipes import load_recipe
from fastlm.devices import hardware
from fastlm.devices.hardware import free_memory
from fastlm.train import micro_batch as memory
from fastlm.train import train
from fastlm.train import trainer as trainer_module
from fastlm.train.command import TrainArguments
from fastlm.train.micro_batch import OutOfMemory, plan_memory, usable_memory
from fastlm.train.trainer import Trainer

CUDA = torch.device("cuda")


@pytest.fixture
def card(monkeypatch):
    """A function that sets the free memory, in GiB."""

    def set_free(gib: float) -> None:
        monkeypatch.setattr(memory, "free_memory", lambda device: int(gib * 2**30))

    return set_free


def recipe(name: str, **changes) -> TrainConfig:
    return dataclasses.replace(load_recipe(name), bf16=True, compile=True, **changes)


def peak(config: TrainConfig, micro_batch: int, checkpointed: bool) -> int:
    parts = training_memory(
        config.model, micro_batch, bf16=True, optim=config.optim, compiled=config.compile,
        checkpointed=checkpointed,
    )  # fmt: skip
    return sum(parts.values())


@pytest.mark.parametrize(("bf16", "micro_batch"), [(True, 32), (False, 16)])
def test_the_recipe_for_small_cards_fits_8_gib_with_and_without_bfloat16(bf16, micro_batch, card):
    """A tenth and half a GiB of a card of 8 GiB are kept free for what no formula counts."""
    card(8)
    config = dataclasses.replace(load_recipe("small-gpu"), bf16=bf16, compile=bf16)
    assert config.micro_batch == "auto"
    plan = plan_memory(config, CUDA, bf16=bf16)
    assert (plan.micro_batch, plan.checkpoint_activations) == (micro_batch, False)
    assert plan.needed <= 0.9 * 8 * 2**30 - 2**29


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "eager"])
@pytest.mark.parametrize("gib", [8, 12, 24, 48])
@pytest.mark.parametrize("name", ["baseline", "leaderboard"])
def test_a_card_takes_the_most_windows_that_fit_and_keeps_tokens_a_step(name, gib, compiled, card):
    card(1000)
    config = dataclasses.replace(recipe(name, memory=float(gib)), compile=compiled)
    if (name, gib) == ("leaderboard", 8):
        with pytest.raises(ValueError, match=r"needs 10\.0 GiB.*; 6\.7 GiB can be used"):
            plan_memory(config, CUDA, bf16=True)
        return
    plan = plan_memory(config, CUDA, bf16=True)
    assert config.batch_size % plan.micro_batch == 0  # 512 windows a step, or 256, as ever
    assert not plan.checkpoint_activations
    usable = 0.9 * gib * 2**30 - 2**29
    assert plan.needed == peak(config, plan.micro_batch, False) <= usable
    assert peak(config, 2 * plan.micro_batch, False) > usable
    # A card that has as much free, and no size given, is filled the same.
    card(gib)
    assert plan_memory(dataclasses.replace(config, memory="auto"), CUDA, bf16=True) == plan


def test_a_larger_card_takes_the_whole_batch(card):
    card(140)
    assert plan_memory(recipe("baseline"), CUDA, bf16=True).micro_batch == 256


def long_context(**changes) -> TrainConfig:
    config = recipe("baseline", **changes)
    model = dataclasses.replace(config.model, context_length=16_384, n_layers=24)
    return dataclasses.replace(config, model=model, batch_size=16)


def test_activations_are_checkpointed_for_a_given_card_only_where_nothing_fits_without(card):
    card(1000)
    tight = long_context(memory=12.0)
    plan = plan_memory(tight, CUDA, bf16=True)
    usable = usable_memory(tight, CUDA)
    assert peak(tight, 1, False) > usable >= peak(tight, plan.micro_batch, True)
    assert plan.checkpoint_activations
    roomy = plan_memory(long_context(memory=48.0), CUDA, bf16=True)
    assert not roomy.checkpoint_activations


def test_nothing_is_checkpointed_unasked_where_no_size_is_given(card):
    card(12)
    with pytest.raises(ValueError, match=r"can be used on cuda .*give --checkpoint-activations"):
        plan_memory(long_context(), CUDA, bf16=True)
    plan = plan_memory(long_context(checkpoint_activations=True), CUDA, bf16=True)
    assert plan.checkpoint_activations
    asked = dataclasses.replace(recipe("baseline"), checkpoint_activations=True)
    card(1000)
    assert plan_memory(asked, CUDA, bf16=True).checkpoint_activations


def test_a_given_micro_batch_is_taken_as_it_is(card):
    card(0.1)
    assert plan_memory(recipe("leaderboard", micro_batch=64), CUDA, bf16=True).micro_batch == 64


def test_a_card_is_never_filled_beyond_what_is_free(card):
    card(24)
    config = recipe("baseline", memory=48.0)
    assert usable_memory(config, CUDA) == usable_memory(recipe("baseline"), CUDA)


def test_validations_of_all_micro_batches_are_alike(data, tmp_path, monkeypatch):
    """They take equally long, and their losses are the same bit for bit."""
    sizes = []
    evaluate = trainer_module.evaluate_loss

    def counted(*args, batch_size, **options):
        sizes.append(batch_size)
        return evaluate(*args, batch_size=batch_size, **options)

    monkeypatch.setattr(trainer_module, "evaluate_loss", counted)
    found = []
    for size in (1, 8):
        run = short_runs.new_run(short_runs.config(data, micro_batch=size), tmp_path)
        found.append([run.trainer.evaluate(n).loss for n in (512, 5000, None)])
    assert found[0] == found[1]
    n_windows = -(-(len(run.trainer.data.val.tokens) - 1) // 32)
    assert n_windows < 128
    assert sizes == 2 * [512 // 32, min(n_windows, -(-5000 // 32)), n_windows]
    run = short_runs.new_run(short_runs.config(data, micro_batch=2, compile=True), tmp_path)
    assert run.trainer._validation_batch(None) == 2  # another size would be compiled


def test_a_validation_computes_no_gradients_ahead(data, tmp_path, monkeypatch):
    within = []

    @contextlib.contextmanager
    def forward_only():
        within.append(True)
        yield
        within.append(False)

    monkeypatch.setattr(trainer_module, "forward_only", forward_only)
    run = short_runs.new_run(short_runs.config(data), tmp_path)
    monkeypatch.setattr(
        run.trainer, "loss", lambda *batch, loss=run.trainer.loss: loss(*batch) * within[-1]
    )
    assert run.trainer.evaluate(512).loss > 0
    assert within == [True, False]


def test_validations_that_do_not_fit_are_of_the_micro_batch(card):
    card(4)
    config = dataclasses.replace(recipe("tiny", micro_batch=2), compile=False)
    plan = plan_memory(config, CUDA, bf16=True)
    windows = memory.VALIDATION_TOKENS // config.model.context_length
    assert memory.plan_validation(config, plan, CUDA, bf16=True) == windows > 2
    card(0.6)
    assert memory.plan_validation(config, plan, CUDA, bf16=True) == 2


@pytest.mark.parametrize("batch_size", [10**9, 2**63 - 1, 999_999_937, 1, 48, 97, 720])
def test_the_largest_size_is_found_whatever_the_batch(batch_size, card):
    """A batch of 10^9 windows, or of a prime number of them, is not searched through."""
    card(8)
    config = recipe("tiny", batch_size=batch_size)
    n_calls, needed = 0, memory.step_memory

    def counted(*args, **options):
        nonlocal n_calls
        n_calls += 1
        return needed(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "step_memory", counted)
        plan = plan_memory(config, CUDA, bf16=True)
    assert n_calls < 120
    assert batch_size % plan.micro_batch == 0
    assert plan.needed <= usable_memory(config, CUDA)
    larger = range(plan.micro_batch + 1, min(batch_size, plan.micro_batch + 5000) + 1)
    for size in (size for size in larger if batch_size % size == 0):
        assert needed(config, size, bf16=True).total > usable_memory(config, CUDA)


def test_a_loss_in_chunks_lets_more_windows_in(card):
    card(1000)
    config = dataclasses.replace(recipe("baseline", memory=24.0), compile=False)
    assert plan_memory(config, CUDA, bf16=True).micro_batch == 32
    assert plan_memory(config, CUDA, bf16=True, kernels=["linear_cross_entropy"]).micro_batch == 64


def test_memory_is_auto_or_above_zero():
    with pytest.raises(ValueError, match="memory must be auto or a number of GiB above 0: got 0"):
        recipe("baseline", memory=0.0)


def test_free_memory_of_a_cpu_counts_what_the_system_would_give_up(monkeypatch, tmp_path):
    told = tmp_path / "meminfo"
    told.write_text("MemTotal:  9000 kB\nMemFree:  100 kB\nMemAvailable:  7000 kB\n")
    monkeypatch.setattr(hardware, "Path", lambda name: told)
    assert free_memory(torch.device("cpu")) == 7000 * 1024


def test_memory_that_is_not_there_is_recognized():
    with pytest.raises(RuntimeError) as of_the_cpu:
        torch.empty(1 << 50)
    assert memory.is_out_of_memory(of_the_cpu.value)
    assert memory.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not memory.is_out_of_memory(RuntimeError("shapes do not match"))


@pytest.mark.parametrize(
    ("changes", "checkpointed", "advice"),
    [
        ({}, False, "give --micro-batch 4 or --checkpoint-activations"),
        ({"batch_size": 9}, False, "give --micro-batch 3 or --checkpoint-activations"),
        ({}, True, "give --micro-batch 4, which"),
        ({"micro_batch": 1}, False, "give --checkpoint-activations, which"),
        ({"micro_batch": 1}, True, "take a smaller network"),
    ],
)
def test_a_step_that_does_not_fit_says_which_flags_do(
    changes, checkpointed, advice, data, tmp_path, monkeypatch
):
    def step(self, stream, **place):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Trainer, "train_step", step)
    run_config = short_runs.config(data, checkpoint_activations=checkpointed, **changes)
    with pytest.raises(OutOfMemory, match=r"windows at once: .* held at the peak") as told:
        train(run_config, tmp_path / "run")
    assert advice in str(told.value)
    assert "\n" not in str(told.value)
    flags = advice.split("give ")[-1].split(",")[0].split(" or ")
    argv = " ".join(flags).split() if "give" in advice else []
    arguments = cli.parse(TrainArguments, argv, default=TrainArguments(run_config))
    assert arguments.config.batch_sizes == run_config.batch_sizes  # and the flags are real ones


def test_the_error_counts_the_windows_of_the_largest_batch():
    """The batch size of a recipe is for runs whose batch does not grow."""
    grows = TrainConfig(batch_size=16, batch_ramp=(256, 512), max_steps=9)
    error = memory.out_of_memory(memory.MemoryPlan(128, False, 1 << 30), grows, 1 << 30)
    assert str(error).startswith("out of memory with 128 of 512 windows at once")
