"""The commands as a user types them: what they print, their exit codes, and that errors are one line."""

import json
import shutil
from importlib import import_module
from pathlib import Path

import pytest
from commands import TINY, check_refused, fastlm

from fastlm.cli.commands import COMMANDS
from fastlm.generate import __main__ as generate_command
from fastlm.train import command as train_command

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with a small text, prepared data and a trained run, all made by commands."""
    folder = tmp_path_factory.mktemp("work")
    from fastlm.corpus.stories import generate_stories

    text = "".join(f"{s}\n<|endoftext|>\n" for s in generate_stories(seed=0, n_bytes=40_000))
    (folder / "text.txt").write_text(text, encoding="utf-8")
    for words in (
        ["data", "prepare", "text.txt", "--vocab-size", "300", "--out", "d"],
        ["train", "--data", "d", "--out", "run", "--max-steps", "3", *TINY],
    ):
        done = fastlm(*words, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def test_prepare_says_what_it_made_and_what_comes_next(work):
    done = fastlm("data", "prepare", "text.txt", "--vocab-size", "300", "--out", "d", cwd=work)
    assert (done.returncode, done.stdout) == (0, "")
    assert "up to date" in done.stderr
    assert "python -m fastlm.train --data d" in done.stderr


def test_evaluate_prints_the_loss_of_the_summary(work):
    done = fastlm("evaluate", "run", "--device", "cpu", cwd=work)
    assert done.returncode == 0, done.stderr
    told, summary = json.loads(done.stdout), json.loads((work / "run/summary.json").read_text())
    assert told["loss"] == pytest.approx(summary["val_loss"], rel=1e-5)
    assert told["bits_per_byte"] == pytest.approx(summary["bits_per_byte"], rel=1e-5)
    assert told["n_tokens"] == summary["val_tokens"]


def test_generate_continues_the_prompt_and_repeats_with_its_seed(work, monkeypatch, capfd):
    words = ["run", "--prompt", "Once", "--max-tokens", "20", "--device", "cpu"]
    first = fastlm("generate", *words, cwd=work)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("Once")
    monkeypatch.chdir(work)
    capfd.readouterr()
    generate_command.main(words)
    assert capfd.readouterr().out == first.stdout
    generate_command.main([*words, "--seed", "1", "--n", "2"])
    other = capfd.readouterr().out
    assert other.count("Once") >= 2
    assert other.count("\n---\n") == 1


def test_train_resumes_its_own_run_with_a_longer_budget(work, tmp_path):
    shutil.copytree(work / "run", tmp_path / "run")
    done = fastlm("train", "--resume", str(tmp_path / "run"), "--max-steps", "5", cwd=work)
    assert done.returncode == 0, done.stderr
    assert "resumed at step 3" in done.stderr
    assert json.loads((tmp_path / "run/summary.json").read_text())["step"] == 5


def test_train_runs_get_folders_of_their_own(work, monkeypatch):
    monkeypatch.chdir(work)
    for _ in range(2):
        train_command.main(["--data", "d", "--max-steps", "1", *TINY])
    assert sorted(p.name for p in (work / "out").iterdir()) == ["stories-1", "stories-2"]


BAD = {
    "missing text": (["data", "prepare", "absent.txt", "--vocab-size", "300", "--out", "x"], "absent.txt"),
    "empty text": (["data", "prepare", "empty.txt", "--vocab-size", "300", "--out", "x"], "empty"),
    "text without documents": (["data", "prepare", "blank.txt", "--vocab-size", "300", "--out", "x"], "no documents"),
    "vocabulary too small": (["data", "prepare", "text.txt", "--vocab-size", "256", "--out", "x"], "257"),
    "tokenizer vocabulary too small": (["tokenizer", "train", "text.txt", "--vocab-size", "200", "--out", "x"], "257"),
    "tokenizer of a missing text": (["tokenizer", "train", "absent.txt", "--vocab-size", "300", "--out", "x"], "absent.txt"),
    "unknown flag": (["train", "--batch-sise", "3"], "did you mean --batch-size?"),
    "unknown section flag": (["train", "--model.d-modle", "3"], "did you mean --model.d-model?"),
    "threads under another name": (["tokenizer", "train", "text.txt", "--vocab-size", "300", "--out", "x", "--n-threads", "2"], "did you mean --threads?"),
    "context under another name": (["accounting", "tiny", "--context", "64"], "did you mean --context-length?"),
    "unknown recipe": (["train", "--recipe", "storys"], "did you mean stories?"),
    "unknown command": (["corpus", "storys", "--out", "x"], "did you mean stories?"),
    "width not divisible": (["train", "--model.d-model", "100", "--model.n-heads", "3"], "n_heads=3, d_model=100"),
    "value of a wrong kind": (["train", "--batch-size", "many"], "--batch-size"),
    "no such choice": (["train", "--model.norm", "most"], "--model.norm"),
    "no such device": (["train", "--data", "d", "--device", "mps", "--out", "x"], "device mps is not available"),
    "bad duration": (["train", "--time-budget", "soon"], "such as 90m"),
    "no Triton op": (["train", "--data", "d", "--triton-ops", "fast", "--out", "x"], "--triton-ops fast: 'fast' is no Triton op"),
    "folder without data": (["train", "--data", "nowhere", "--out", "x"], "fastlm.data prepare"),
    "tokens of another vocabulary": (["train", "--data", "foreign", "--max-steps", "1", "--out", "x", *TINY], "vocabulary of 300"),
    "vocabulary that is not the data's": (["train", "--data", "d", "--model.vocab-size", "500", "--out", "x"], "--vocab-size 500"),
    "data shorter than a window": (
        ["train", "--data", "d", "--max-steps", "1", "--out", "x", "--model.context-length", "999999"],
        "shorter than one window",
    ),
    "unwritable output": (["train", "--data", "d", "--max-steps", "1", "--out", "text.txt/x", *TINY], "text.txt"),
    "unwritable corpus": (["corpus", "stories", "--out", "text.txt/x"], "text.txt"),
    "unwritable data": (["data", "prepare", "text.txt", "--vocab-size", "300", "--out", "text.txt/x"], "text.txt"),
    "run in the way": (["train", "--data", "d", "--max-steps", "1", "--out", "run", *TINY], "--resume auto"),
    "no end": (["train", "--data", "d", "--max-steps", "None", "--out", "x"], "a run needs an end"),
    "batch that falls": (["train", "--batch-ramp", "8", "4", "--out", "x"], "batch_ramp must rise"),
    "fixed steps without a time": (["train", "--max-steps", "3", "--fix-steps", "--out", "x"], "give --time-budget"),
    "resume of nothing": (["train", "--resume", "nowhere"], "no run in nowhere"),
    "resume into another folder": (["train", "--resume", "run", "--out", "x"], "leave out --out x"),
    "resume without a folder": (["train", "--resume", "auto", "--data", "d"], "needs --out"),
    "evaluation of no run": (["evaluate", "nowhere"], "no run in nowhere"),
    "evaluation on other data": (["evaluate", "run", "--data", "other"], "another tokenizer"),
    "generation without a run": (["generate", "nowhere", "--prompt", "x"], "no run in nowhere"),
    "generation too hot": (["generate", "run", "--temperature", "-2"], "temperature must be at least 0"),
}  # fmt: skip


@pytest.fixture(scope="module")
def bad_files(work) -> Path:
    import numpy as np

    (work / "empty.txt").write_text("")
    (work / "blank.txt").write_text(" \n<|endoftext|>\n\n")
    (work / "other.txt").write_text("quite another text, again and again " * 300)
    done = fastlm("data", "prepare", "other.txt", "--vocab-size", "300", "--out", "other", cwd=work)
    assert done.returncode == 0, done.stderr
    shutil.copytree(work / "d", work / "foreign")
    tokens = np.fromfile(work / "foreign/train.bin", "<u2")
    tokens[5] = 4000
    tokens.tofile(work / "foreign/train.bin")
    return work


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_exit_2_and_nothing_written(case, bad_files, monkeypatch, capfd):
    """The commands' functions are called in this process, where slow imports are done."""
    if case == "no Triton op":
        pytest.importorskip("triton")
    words, message = BAD[case]
    before = sorted(bad_files.rglob("*"))
    monkeypatch.chdir(bad_files)
    arguments = import_module(f"fastlm.{COMMANDS[words[0]].arguments}")
    check_refused(lambda: arguments.main(words[1:]), message, capfd)
    assert sorted(bad_files.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("case", ["empty text", "unknown flag", "no end", "resume of nothing"])
def test_bad_input_of_a_process_is_one_line_too(case, bad_files):
    words, message = BAD[case]
    done = fastlm(*words, cwd=bad_files)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("error: ")
    assert message in done.stderr


def test_bf16_is_refused_where_the_device_cannot(monkeypatch):
    import torch

    from fastlm.devices.hardware import choose_compute_dtype

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(ValueError, match="--bf16 needs a GPU .* Tesla T4 is older; leave it out"):
        choose_compute_dtype(torch.device("cuda"), True)
    assert choose_compute_dtype(torch.device("cuda"), False) == (torch.float32, "")


def test_bf16_on_a_cpu_without_it_is_float32_and_said(monkeypatch):
    import torch

    from fastlm.devices import hardware

    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: False)
    dtype, notice = hardware.choose_compute_dtype(torch.device("cpu"), True)
    assert dtype == torch.float32
    assert "no bfloat16 instructions" in notice
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: True)
    assert hardware.choose_compute_dtype(torch.device("cpu"), True) == (torch.bfloat16, "")
