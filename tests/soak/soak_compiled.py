"""Runs by the code that Inductor generates, whose C++ takes minutes to compile: `make soak`."""

import dataclasses
import subprocess
import sys

import pytest
from compiled_runs import train_compiled
from float8_cases import check_a_model_learns_by_it_as_without, check_it_is_one_graph
from leaderboard_runs import config
from short_runs import MODEL
from short_runs import config as plain_config

# With the parts that keep something from step to step: tables, the tie, the average, momenta.
FLAGS = """
--recipe leaderboard-tiny --compile --max-steps 1000 --model.d-model 32 --model.d-ff 64
--model.n-heads 2 --model.context-length 16 --model.ngram-rows 512 --model.n-layers 2 --batch-size 4
--micro-batch 2 --optim.average-tail 0.4 --optim.tie-until 0.3 --log-every 50 --eval-every 250
--eval-tokens 256 --checkpoint-every 250 --device cpu
"""
COMMAND = """
import resource, sys, torch
from fastlm.train.command import main
from fastlm.train.telling import Telling

torch._dynamo.config.error_on_recompile = True
log = Telling.training

def log_with_memory(self, trainer, *arguments):
    with open("/proc/self/statm") as file:
        print(trainer.step, int(file.read().split()[1]) * resource.getpagesize(), flush=True)
    return log(self, trainer, *arguments)

Telling.training = log_with_memory
main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of the process")
def test_memory_is_steady_and_nothing_is_compiled_again(data, tmp_path):
    """The last of a thousand compiled steps hold as much memory as the first ones."""
    out = tmp_path / "run"
    words = [sys.executable, "-c", COMMAND, *FLAGS.split(), "--data", str(data), "--out", str(out)]
    result = subprocess.run(words, capture_output=True, text=True, timeout=3600)
    assert result.returncode == 0, result.stderr
    held = dict(tuple(map(int, line.split())) for line in result.stdout.splitlines()[:21])
    assert list(held) == [1, *range(50, 1001, 50)]
    # By step 300 all that happens now and then has happened once. Four kilobytes a step, the size of
    # one activation of this network, would be 2.8 MB more at the end.
    grown = max(held[step] for step in range(850, 1001, 50)) - held[300]
    assert grown <= 2_500_000, held


@pytest.mark.parametrize("scope", ["step", "block"])
def test_the_leaderboards_network_and_optimizers_agree(scope, data, tmp_path):
    run_config = config(data, compile_scope=scope, max_steps=12)
    train_compiled(run_config, tmp_path / "compiled", eager=tmp_path / "eager", rel=1e-3)


def test_a_product_of_float8_agrees():
    check_it_is_one_graph()


@pytest.mark.parametrize("scope", ["step", "block"])
def test_a_run_in_bfloat16_agrees(scope, data, tmp_path):
    run_config = plain_config(data, compile_scope=scope, bf16=True)
    train_compiled(run_config, tmp_path / "compiled", eager=tmp_path / "eager", rel=0.02)


@pytest.mark.parametrize(
    "change", [{}, {"norm": "post", "ffn": "silu", "tie_weights": False}], ids=str
)
def test_networks_without_the_leaderboards_parts_agree(change, data, tmp_path):
    run_config = plain_config(data, model=dataclasses.replace(MODEL, **change), max_steps=4)
    train_compiled(run_config, tmp_path / "compiled", eager=tmp_path / "eager", rel=1e-3)


@pytest.mark.parametrize("ffn", ["swiglu", "silu"])
def test_a_model_learns_by_float8_as_without(ffn):
    """test_float8.py has the leaderboard's feed-forward layer."""
    check_a_model_learns_by_it_as_without(ffn)
