"""The command of fastlm.accounting: figures by hand, runs it projects from, and what it refuses."""

import dataclasses
import json
import re

import pytest

from fastlm.accounting import GPT2, largest_batch, training_flops_per_token, training_memory
from fastlm.accounting.__main__ import main
from fastlm.config.recipes import load_recipe
from fastlm.runs.record import RunRecord, write_json


def printed(capsys, *arguments) -> str:
    main(list(arguments))
    return capsys.readouterr().out


def row(text: str, name: str) -> list[str]:
    """Cells of the line that begins with a name."""
    line = next(line for line in text.splitlines() if line.strip().startswith(name))
    return re.split(r"  +", line.strip())


def test_speed_tokens_and_time_of_a_budget(capsys):
    text = printed(capsys, "baseline", "--chip", "H100", "--mfu", "0.4", "--seconds", "100")
    config = load_recipe("baseline").model
    per_token = training_flops_per_token(config, config.context_length)
    speed = 0.4 * 989.5e12 / per_token
    cells = row(text, "H100")
    assert cells[1:3] == ["989.5 TFLOP/s", f"{speed:,.0f}"]
    assert cells[5:] == [f"{100 * speed:.4g}", f"{100 * speed * per_token:.3g}", "1:40"]


def test_gpt2_xl_by_part(capsys):
    text = printed(capsys, "gpt2-xl", "--mfu", "0.5")
    assert row(text, "feed-forward")[1:] == ["1,474,560,000", "69.3%"]
    assert "  all              2,127,057,600" in text
    assert row(text, "attention: scores and values")[1] == f"{48 * 4 * 1024**2 * 1600:.4e}"
    assert "  all                              4.5133e+12  1.3540e+13" in text
    days = 400_000 * 1024 * 3 * 4.5133e12 / (0.5 * 312e12) / 86_400
    assert row(text, "A100")[-1] == f"{days:,.1f} days"
    assert [line.split()[0] for line in text.splitlines()[-4:]] == ["A100", "H100", "H200", "B200"]


def test_without_bf16_peaks_and_memory_are_those_of_float32(capsys):
    text = printed(capsys, "gpt2-xl", "--no-bf16", "--chip", "A100", "--memory", "80")
    assert row(text, "A100")[1] == "19.5 TFLOP/s"
    model = GPT2["gpt2-xl"]
    windows = int(row(text, "A100")[3])
    fitting = [n for n in range(1, 30) if sum(training_memory(model, n).values()) <= 80e9]
    assert windows == max(fitting)


def test_what_does_not_fit_is_said(capsys):
    text = printed(capsys, "gpt2-xl", "--memory", "24", "--chip", "A100")
    assert row(text, "A100")[3:5] == ["none", "24 GB"]


def test_the_context_is_the_one_asked_for(capsys):
    text = printed(capsys, "gpt2-xl", "--context-length", "16384")
    assert "context 16,384" in text
    assert f"{149.52e12:.3e}"[:5] in text


def test_the_sizes_of_gpt2_stand_beside_each_other(capsys):
    text = printed(capsys, "gpt2")
    assert re.split(r"\s{2,}", text.splitlines()[0])[1:] == [
        "small", "medium", "large", "xl", "xl, T 16,384",
    ]  # fmt: skip
    assert row(text, "attention: scores and values")[1:] == [
        "0.03865 T", "11.1%", "0.1031 T", "10.0%", "0.1933 T", "8.6%", "0.3221 T", "7.1%",
        "82.46 T", "55.2%",
    ]  # fmt: skip
    assert row(text, "all")[1:] == ["0.34963 T", "1.0331 T", "2.2578 T", "4.5133 T", "149.52 T"]


def test_the_budget_is_the_recipes_own_where_none_is_given(capsys):
    assert row(printed(capsys, "tinystories", "--chip", "A100"), "A100")[5] == "3.277e+08"


def test_tokens_replace_the_budget(capsys):
    cells = row(printed(capsys, "leaderboard", "--chip", "H100", "--tokens", "1e9"), "H100")
    assert cells[5] == "1e+09"


def record_run(folder, n_tokens, loss):
    config = load_recipe("tiny")
    folder.mkdir()
    record = RunRecord(folder)
    record.start(config, {})
    per_token = training_flops_per_token(config.model, config.model.context_length)
    write_json(
        folder / "summary.json",
        {"finished": loss is not None, "tokens": n_tokens, "val_loss": loss},
    )
    return n_tokens * per_token


def test_runs_project_to_the_budget(tmp_path, capsys):
    runs = []
    for n_tokens, loss in ((1_000_000, 4.0), (2_000_000, 3.7), (4_000_000, 3.5)):
        runs.append(str(tmp_path / f"run-{n_tokens}"))
        record_run(tmp_path / f"run-{n_tokens}", n_tokens, loss)
    main(["tiny", "--mfu", "0.1", "--seconds", "10", "--runs", *runs])
    text = capsys.readouterr().out
    assert "loss 3.7000" in text
    assert "projected, not measured: loss " in text.splitlines()[-1]


def test_a_run_may_stand_in_place_of_a_recipe(tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    config = dataclasses.replace(load_recipe("tiny"), max_tokens=5_000_000, time_budget=None)
    RunRecord(folder).start(config, {})
    main([str(folder)])
    assert row(capsys.readouterr().out, "H100")[5] == "5e+06"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["leaderbord"], "did you mean leaderboard"),
        (["baseline", "--chip", "H101"], "unknown chip 'H101'; did you mean H100"),
        (["baseline", "--tokens", "0"], "tokens must be above 0: got 0"),
        (["gpt3-xl"], "did you mean gpt2-xl"),
        ([""], "expected a recipe or the folder of a run, got an empty word"),
        (["baseline", "--memory", "inf"], "memory must be above 0 and finite: got inf"),
        (["baseline", "--memory", "nan"], "memory must be above 0: got nan"),
        (["baseline", "--tokens", "inf"], "tokens must be above 0 and finite: got inf"),
        (["baseline", "--tokens", "nan"], "tokens must be above 0: got nan"),
        (
            ["baseline", "--mfu", "nan"],
            "mfu is a share of the peak, above 0 and at most 1: got nan",
        ),
        (["baseline", "--seconds", "inf"], "expected a duration such as"),
        (["baseline", "--mfu", "45"], "mfu is a share of the peak, above 0 and at most 1: got 45"),
    ],
)
def test_what_has_no_meaning_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        main(arguments)


@pytest.mark.parametrize(
    "field", ["max_steps", "model.d_ff", "optim.warmup_steps", "optim.lr", "data.vocab_size"]
)
def test_a_number_that_is_no_index_is_refused(field, tmp_path):
    record = RunRecord(tmp_path / "run")
    record.start(load_recipe("tiny"), {})
    values = json.loads(record.files.config.read_text())
    section, _, name = field.rpartition(".")
    (values[section] if section else values)[name] = 10**400
    record.files.config.write_text(json.dumps(values))
    with pytest.raises(
        ValueError, match=rf"{name} must be at most 2\^63 - 1: got one of 1329 bits"
    ):
        main([str(tmp_path / "run")])


def test_an_unfinished_run_is_refused(tmp_path):
    record_run(tmp_path / "run", 1000, None)
    with pytest.raises(ValueError, match="run is stopped, not finished"):
        main(["tiny", "--seconds", "1", "--runs", str(tmp_path / "run")])
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["val_loss"] is None


def test_chips_are_found_in_any_case(capsys):
    texts = [printed(capsys, "tiny", "--chip", chip) for chip in ("B200", "b200", "rtx 4090")]
    assert texts[0] == texts[1]
    assert row(texts[2], "RTX 4090")[1] == "165.2 TFLOP/s"


def test_the_largest_batch_of_endless_memory_is_refused():
    for n_bytes in (float("inf"), float("nan")):
        with pytest.raises(ValueError, match="finite number of bytes"):
            largest_batch(lambda n: n, n_bytes)


@pytest.mark.parametrize(
    ("summary", "message"),
    [
        ({"tokens": 0, "val_loss": 3.0}, "was trained on no tokens: leave it out"),
        ({"tokens": -5, "val_loss": 3.0}, "was trained on no tokens: leave it out"),
        ({"tokens": None, "val_loss": 3.0}, "has no number of tokens and validation loss"),
        ({"tokens": 5, "val_loss": "low"}, "has no number of tokens and validation loss"),
        ({"tokens": [5], "val_loss": float("nan")}, "has no number of tokens and validation loss"),
    ],
)
def test_a_run_without_figures_is_refused(summary, message, tmp_path):
    record_run(tmp_path / "run", 1000, 3.0)
    (tmp_path / "run/summary.json").write_text(json.dumps({"finished": True} | summary))
    with pytest.raises(ValueError, match=message):
        main(["tiny", "--seconds", "1", "--runs", str(tmp_path / "run")])
