"""Words of the command line that are mistaken get an answer that leads on, and nothing is done."""

import dataclasses
import os
import re
import shlex
import shutil
import signal
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from fastlm import cli
from fastlm.cli.commands import COMMANDS
from fastlm.config.durations import duration_text, parse_duration


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("train --lr 0.01", "--lr, 0.01; did you mean --optim.lr?"),
        ("train --lr=0.01", "--lr=0.01; did you mean --optim.lr?"),
        ("train --d_model 64", "did you mean --model.d-model?"),
        ("train --learning_rate 0.01", "did you mean --optim.lr?"),
        ("train --block-size=64", "did you mean --model.context-length?"),
        ("train --recipe nano", "unknown recipe 'nano'; known: baseline, "),
        ("train --no-qk-norm", "did you mean --model.no-qk-norm?"),
        ("train --vocab-size 300", "did you mean --model.vocab-size or --data.vocab-size?"),
        ("sweep out --vary lr=1,2 --n-layers 3", "did you mean --model.n-layers?"),
        ("train --compile false", "--compile takes no value: give --no-compile"),
        ("train --compile=False", "--compile takes no value: give --no-compile"),
        ("train --compile 1 --bf16", "--compile takes no value: leave that out"),
        ("train --model.qk_norm no", "--model.qk-norm takes no value: give --model.no-qk-norm"),
        ("export run --to hf --out x --with-code true", "--with-code takes no value: leave that"),
        ("generate run 'Once upon'", "give that after its flag: --prompt 'Once upon'"),
        ("generate run Once upon --seed 3", "give that after its flag: --prompt 'Once upon'"),
        ("generate run --prompt 'caf\udce9'", "is the lone surrogate '\\udce9'"),
        ("generate run --seed 18446744073709551615 --n 2", "seed must have at most 64 bits"),
        ("train data/mine", "give that after its flag: --data data/mine"),
        ("evaluate run data/mine", "give that after its flag: --data data/mine"),
        ("train --time-budget 10", "a duration needs its unit, such as 10s, 10m or 10h: got '10'"),
        ("train --time-budget=1.5", "a duration needs its unit, such as 1.5s, 1.5m or 1.5h"),
        ("train --out ''", "--out: expected a value, got an empty word"),
        ("train --resume=", "--resume: expected a value, got an empty word"),
        ("train --data ''", "--data: expected a path, got an empty word"),
        ("train --init-from ''", "--init-from: expected a path, got an empty word"),
        ("train --recipe ''", "unknown recipe ''"),
        ("sweep '' --seeds 0 1", "expected a path, got an empty word"),
        ("sweep x --seeds 0 1 --data ''", "--data: expected a path, got an empty word"),
        ("data prepare '' --vocab-size 300 --out x", "expected a value, got an empty word"),
        ("data prepare t --vocab-size 300 --out ''", "expected a path, got an empty word"),
        ("tokenizer train t --vocab-size 300 --out=", "--out: expected a path, got an empty word"),
        ("corpus stories --out ''", "--out: expected a path, got an empty word"),
        ("import tokenizer t --out ''", "--out: expected a path, got an empty word"),
        ("export run --to hf --out ''", "--out: expected a path, got an empty word"),
        ("evaluate run --data ''", "--data: expected a value, got an empty word"),
        ("report ''", "expected a value, got an empty word"),
        ("records run --to ''", "--to: expected a path, got an empty word"),
        ("accounting tiny --runs ''", "--runs: expected a value, got an empty word"),
    ],
)
def test_the_answer_leads_on(line, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verb, *words = shlex.split(line)
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - all of them are one line
        import_module(f"fastlm.{COMMANDS[verb].arguments}").main(words)
    assert answer in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("prepare", "did you mean fastlm data prepare?"),
        ("encode", "did you mean fastlm tokenizer encode?"),
        ("stories", "did you mean fastlm corpus stories?"),
        ("tokens", "did you mean fastlm import tokens?"),
        ("evalute", "did you mean evaluate?"),
    ],
)
def test_the_second_word_of_a_command_names_it(word, answer, monkeypatch, capfd):
    from fastlm.cli import commands

    monkeypatch.setattr("sys.argv", ["fastlm", word, "x"])
    with pytest.raises(SystemExit) as left:
        commands.main()
    assert (left.value.code, capfd.readouterr().err) == (
        2, f"error: unknown command {word!r}; {answer}\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45s", 45),
        ("90m", 5400),
        ("1.5h", 5400),
        ("1:30:00", 5400),
        ("1:30", 5400),
        ("1h30m", 5400),
        ("7h30m", 27000),
        ("1h0m5s", 3605),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds
    assert parse_duration(duration_text(seconds)) == seconds


@pytest.mark.parametrize("seconds", [0.5, 1e-3, 85 * 60.0, 1036800.0, 1234567.0, 31536000.0, 1 / 3])
def test_seconds_come_back_from_their_text(seconds):
    assert parse_duration(duration_text(seconds)) == pytest.approx(seconds, rel=1e-14)


@pytest.mark.parametrize("text", ["", "10", "1.5", "0s", "-3m", "m", "1d", "30m1h", "1h 30m", "inf", "nan", "1e3s", "9" * 400 + "h", "9" * 400 + ":00"])  # fmt: skip
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)
    if text in ("10", "1.5"):
        assert parse_duration(text, unit="s") == float(text)


def test_commands_can_be_pasted_into_a_shell():
    line = cli.command_line("train", "--data", "my 'data'; rm -r $HOME")
    words = ["python", "-m", "fastlm.train", "--data", "my 'data'; rm -r $HOME"]
    assert shlex.split(line) == words
    assert (
        cli.command_line("train", "--data", "data/mine")
        == "python -m fastlm.train --data data/mine"
    )
    assert shlex.split(cli.pasted("--out", "my run")) == ["--out", "my run"]
    assert cli.pasted("--out", Path("-x")) == "--out ./-x"
    assert cli.command_line("sweep", Path("-x/y")) == "python -m fastlm.sweep ./-x/y"


@pytest.mark.parametrize("columns", ["1", "3"])
def test_a_screen_of_a_few_columns_gets_help_and_answers(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)

    def give_up(*_: object) -> None:
        raise TimeoutError("the help page never ends")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    try:
        with pytest.raises(SystemExit):
            cli.parse(Narrow, ["--help"])
        assert {len(line) for line in capsys.readouterr().out.splitlines()[2:]} == {20}
        with pytest.raises(cli.BadArguments, match="did you mean --section.number-of-steps"):
            cli.parse(Narrow, ["--number-of-steps", "3"])
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert os.environ["COLUMNS"] == columns


@dataclasses.dataclass(frozen=True)
class Section:
    number_of_steps: int = 0
    """a number that is explained in more words than a few columns hold"""


@dataclasses.dataclass(frozen=True)
class Narrow:
    section: Section = Section()


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("data prepare a.txt --vocab-size 300 --out=~/x", "the shell has not expanded ~/x: give /home/me/x, or ./~/x"),
        ("data prepare a.txt ~/b.txt --vocab-size 300 --out x", "the shell has not expanded ~/b.txt: give the path it"),
        ("train --out=~", "the shell has not expanded ~: give the path it means"),
        ("tokenizer encode ~/a.txt --tokenizer t --out x", "the shell has not expanded ~/a.txt"),
    ],
)  # fmt: skip
def test_a_home_that_the_shell_left_is_no_folder_of_that_name(line, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "a.txt").write_text("the cat sat")
    verb, *words = line.split()
    main = import_module(f"fastlm.{COMMANDS[verb].arguments}").main
    with pytest.raises(ValueError, match=re.escape(answer)):
        main(words)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    (tmp_path / "~").mkdir()
    assert cli.named_path("~/x") == "~/x"  # it is meant so
    assert cli.named_path("a~/x") == "a~/x"


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    "word",
    ["two\nlines", "re\x1b[31md", "it's a\ttab\\x", "turned\u202etxt", "by\udcfftes", "caf\u00e9"],
)
def test_odd_names_can_be_pasted_and_are_shown(word):
    pasted = cli.pasted("--out", word)
    assert pasted.isprintable()
    done = subprocess.run(["bash", "-c", f"printf %s {pasted}"], capture_output=True, check=True)
    assert done.stdout == b"--out" + os.fsencode(word)


ODD = "no\x1b[2Jwhere\r\u202e.txt"


@pytest.mark.parametrize(
    "line",
    [
        "data prepare {} --vocab-size 300 --out x", "tokenizer train {} --vocab-size 300 --out x",
        "tokenizer encode {} --tokenizer {} --out x", "tokenizer decode {} --tokenizer {}",
        "import tokenizer {} --out x", "import tokens --train {} --val b --tokenizer c --out x",
        "import model {} --out x", "export {} --to hf --out x", "evaluate {}", "generate {}",
        "report {}", "records {}", "train --data {}",
    ],
)  # fmt: skip
def test_an_error_shows_the_odd_characters_of_names(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    verb, *words = [word.format(ODD) for word in shlex.split(line)]
    main = import_module(f"fastlm.{COMMANDS[verb].arguments}").main
    with pytest.raises(SystemExit) as left:
        cli.run(lambda: main(words))
    said = capsys.readouterr().err
    assert left.value.code == cli.BAD_INPUT
    assert said.removesuffix("\n").isprintable()
    assert r"no\x1b[2Jwhere" in said


def test_other_lines_show_the_odd_characters_of_names(tmp_path, capfd):
    text = tmp_path / "a\x1b[2J.txt"
    text.write_text("the cat sat on the mat. " * 99, encoding="utf-8")
    tok, ids = f"{tmp_path}/tok\nk", f"{tmp_path}/ids\x07.bin"
    for verb, *words in (
        ("tokenizer", "train", str(text), "--vocab-size", "260", "--out", tok),
        ("tokenizer", "encode", str(text), "--tokenizer", tok, "--out", ids),
        ("import", "tokenizer", tok, "--out", f"{tmp_path}/b\nb"),
        ("data", "prepare", str(text), "--tokenizer", tok, "--out", f"{tmp_path}/d\x1bd"),
        ("import", "tokens", "--train", f"{tmp_path}/d\x1bd/train.bin", "--val",
         f"{tmp_path}/d\x1bd/val.bin", "--tokenizer", tok, "--out", f"{tmp_path}/e\x1be"),
        ("corpus", "stories", "--out", f"{tmp_path}/s\rs", "--n-bytes", "9", "--valid-bytes", "9"),
        ("corpus", "stories", "--out", f"{tmp_path}/s\rs", "--n-bytes", "9", "--valid-bytes", "9"),
    ):  # fmt: skip
        import_module(f"fastlm.{COMMANDS[verb].arguments}").main(words)
        told = capfd.readouterr()
        for line in (told.out + told.err).split("\n"):
            assert line.isprintable(), (verb, words)


def test_a_current_folder_that_was_removed_is_told_before_anything_else(
    tmp_path, monkeypatch, capsys
):
    """Where it is not there, a library that torch loads ends the process."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    begun = []
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: begun.append(1))
    told = "error: the current folder was removed: change to one that is there, such as with cd\n"
    assert (end.value.code, capsys.readouterr().err, begun) == (cli.BAD_INPUT, told, [])
