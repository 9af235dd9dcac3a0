"""A path where a run or prepared data is expected: the error says what is there, and what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastlm.config import TrainConfig
from fastlm.files import disk
from fastlm.runs.given import check_model_folder, check_new_run, check_prepared, check_run
from fastlm.runs.record import RunRecord
from fastlm.train.command import main as train_main

ROOT = Path(__file__).resolve().parents[2]


def run(folder: str, *steps: int) -> None:
    RunRecord(Path(folder)).start(TrainConfig(max_steps=1), {})
    for step in steps:
        (Path(folder) / "checkpoints" / f"step-{step:06d}").mkdir(parents=True)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    run("runs/a", 5, 10)
    run("runs/b")
    for path, text in {
        "runs/sweep.json": "{}", "my text.txt": "hello", "texts/a.jsonl.gz": "", "texts/b.txt": "b",
        "data/mine/meta.json": "{}", "data/mine/train.bin": "", "other.bin": "ids", "empty/x/y": "",
        "llama/config.json": '{"model_type": "llama"}', "runs/a/sample.txt": "Once",
    }.items():  # fmt: skip
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("runs/a", ""),
        ("runs/a/checkpoints/step-000005", ""),
        ("nowhere", "no run in nowhere: expected nowhere/config.json"),
        ("runs", "it is a sweep with the runs runs/a, runs/b: give one of them"),
        (".", "it is a folder with the runs runs/a, runs/b: give one of them"),
        ("runs/b", "no checkpoint in runs/b/checkpoints: the run is running and has saved none"),
        ("runs/a/checkpoints", "it is a part of the run runs/a: give that"),
        (
            "runs/a/checkpoints/step-000006",
            "no checkpoint runs/a/checkpoints/step-000006: step-000005, step-000010 are there",
        ),
        ("runs/a/sample.txt", "it is a file: give the folder of its run, runs/a"),
        (
            "my text.txt",
            "for a text, python -m fastlm.data prepare 'my text.txt' --vocab-size N --out DIR and",
        ),
        ("data/mine", "it is prepared data: python -m fastlm.train --data data/mine trains on it"),
        ("llama", "model of transformers, which python -m fastlm.imports model llama --out RUN"),
        ("meta-llama/Llama-3", "a model of the Hugging Face hub is downloaded first"),
        ("https://example.org/run", "an address is not read: download the model"),
        ("empty", "no run in empty: expected empty/config.json"),
        ("/dev/zero", "no run in /dev/zero: it is a device, a pipe or a socket"),
    ],
)
def test_where_a_run_is_expected(path, answer, here):
    if not answer:
        check_run(Path(path))
        return
    with pytest.raises(FileNotFoundError) as refused:
        check_run(Path(path))
    assert answer in str(refused.value)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("data/mine", ""),
        ("nowhere", "make it with python -m fastlm.data prepare TEXT --vocab-size N --out nowhere"),
        (
            "my text.txt",
            "python -m fastlm.data prepare 'my text.txt' --vocab-size N --out 'data/my text' makes",
        ),
        ("texts", "it is a folder of texts, not prepared: python -m fastlm.data prepare texts"),
        ("data", "it has the prepared folders data/mine in it: give one of them"),
        ("data/mine/train.bin", "it is a file: give its folder, data/mine"),
        ("other.bin", "python -m fastlm.imports tokens --train other.bin --val FILE"),
        ("runs/a", "it is the folder of a run"),
        ("roneneldan/TinyStories", "a data set of the Hugging Face hub is downloaded first"),
        ("s3://bucket/data", "an address is not read: download the text"),
        ("empty", "expected empty/meta.json; make it with"),
        ("/dev/zero", "no prepared data in /dev/zero: it is a device, a pipe or a socket"),
    ],
)
def test_where_prepared_data_are_expected(path, answer, here):
    if not answer:
        check_prepared(Path(path))
        return
    with pytest.raises(FileNotFoundError) as refused:
        check_prepared(Path(path))
    assert answer in str(refused.value)


def test_where_a_model_of_another_tool_is_expected(here):
    check_model_folder(Path("llama"))
    for path, answer in {"gpt2/x": "download it first", "other.bin": "it is a file", "/dev/zero": "it is a device", "no": "no such"}.items():  # fmt: skip
        with pytest.raises(FileNotFoundError, match=answer):
            check_model_folder(Path(path))


def test_where_a_run_is_to_begin(here):
    for path in ("new/run", "empty"):
        check_new_run(Path(path))
    held = r"runs/b already holds a run, which is {}: .* --resume auto"
    with pytest.raises(FileExistsError, match=held.format("broken off")):
        check_new_run(Path("runs/b"))
    with (
        disk.locked("runs/b"),
        pytest.raises(FileExistsError, match=held.format("running")),
    ):
        check_new_run(Path("runs/b"))
    for path in ("other.bin", "other.bin/x/y"):
        with pytest.raises(NotADirectoryError, match=r"^other\.bin is a file: give another --out$"):
            check_new_run(Path(path))


WRONG_PATHS = [
    "evaluate nowhere", "evaluate runs/a --data nowhere", "generate nowhere", "generate runs",
    "export nowhere --to hf --out x", "train --data nowhere", "train --resume nowhere",
    "train --init-from nowhere", "train --out runs/a", "train --out other.bin/x", "sweep x --seeds 0 1 --data nowhere",
    "data prepare nowhere --vocab-size 300 --out x", "tokenizer encode nowhere --tokenizer t --out x",
    "import model nowhere --out x", "import tokens --train no --val no --tokenizer no --out x",
    "import model llama --tokenizer nowhere --out x", "import model empty --out x",
    "import tokens --train other.bin --val other.bin --tokenizer nowhere --out x",
    "import tokenizer nowhere --out x", "accounting tiny --runs nowhere", "report nowhere",
    "records nowhere", "evaluate runs/a --batch-size 0", "generate runs/a --temperature -1",
]  # fmt: skip


def test_wrong_paths_are_answered_before_torch_is_loaded(here):
    """All commands in one process, which would have torch from the first that loads it on."""
    program = (
        "import sys, shlex\n"
        "from importlib import import_module\n"
        "from fastlm.cli.commands import COMMANDS\n"
        f"for line in {WRONG_PATHS!r}:\n"
        "    verb, *words = shlex.split(line)\n"
        "    try:\n"
        "        import_module(f'fastlm.{COMMANDS[verb].arguments}').main(words)\n"
        "    except (ValueError, OSError):\n"
        "        pass\n"
        "    else:\n"
        "        print('accepted:', line)\n"
        "    if 'torch' in sys.modules:\n"
        "        sys.exit(f'torch is loaded by {line}')\n"
    )
    before = sorted(here.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "text", "held"),
    [
        ("checkpoints/step-000025/manifest.json", "{}", r"checkpoints of a run \(step-000025\)"),
        ("log.jsonl", '{"step": 3, "kind": "train"}\n', "the log.jsonl of a run without its"),
        ("sweep.json", "{}", "a sweep"),
        ("meta.json", "{}", "prepared data"),
        ("log.jsonl", "notes", "another log.jsonl than that of a run"),
        ("summary.json", "{}", "another summary.json"),
        ("environment.json", '{"name": "mine"}', "another environment.json"),
        ("failed.json", "no JSON", "another failed.json"),
        ("former-summary.json", "{}", "another former-summary.json"),
        ("curve.png", "", "another curve.png"),
        ("sample.txt", "", "another sample.txt"),
    ],
)
def test_a_run_does_not_begin_among_what_it_would_harm(name, text, held, tmp_path):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
    with pytest.raises(FileExistsError, match=f"holds {held}.*give another --out"):
        check_new_run(tmp_path)
    if "run without" not in held and "checkpoints" not in held:  # there is a run to go on with
        with pytest.raises(FileExistsError, match=f"holds {held}.*give another --out"):
            train_main(["--resume", "auto", "--out", str(tmp_path)])


def test_a_run_begins_where_one_was_killed_before_its_first_step(tmp_path):
    (tmp_path / "log.jsonl").touch()
    (tmp_path / "environment.json").write_text('{"python": "3.11", "device": "cpu"}')
    (tmp_path / "failed.json").write_text('{"exit_code": 1, "last": "error"}')
    check_new_run(tmp_path)


@pytest.mark.parametrize("place", ["checkpoints", "checkpoints/step-000005", "tokenizer/new/deep"])
def test_no_run_begins_inside_what_another_run_writes_and_removes(place, here):
    Path("link").symlink_to("runs/a", target_is_directory=True)
    Path("elsewhere").mkdir()
    Path("runs/b/checkpoints").symlink_to("../../elsewhere", target_is_directory=True)
    with pytest.raises(FileExistsError, match="is inside the run .*/runs/b, which"):
        check_new_run(Path("runs/b/checkpoints/new"))
    for folder in (Path("runs/a") / place, Path("link") / place):
        with pytest.raises(
            FileExistsError, match=f"{folder} is inside the run .*/{folder.parts[0]}"
        ):
            train_main(["--out", str(folder)])
        with pytest.raises(FileExistsError, match="is inside the run"):
            train_main(["--resume", "auto", "--out", str(folder)])
    check_new_run(Path("runs/a/other"))
    for folder in ("data/mine/tokenizer", "data/mine/tokenizer/new"):
        with pytest.raises(FileExistsError, match=f"{folder} is inside the prepared data .*/mine"):
            check_new_run(Path(folder))
