"""Every command that writes, with outputs that a user may give by mistake: `make soak`, a minute.

Whatever the output is, no file that was there is changed, and a command that refuses it leaves
nothing behind.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from short_runs import config

from fastlm import cli, records
from fastlm.corpus.__main__ import main as corpus
from fastlm.data.__main__ import main as data_command
from fastlm.export import export_hugging_face
from fastlm.export.__main__ import main as export
from fastlm.files.destination import OURS
from fastlm.imports.__main__ import main as imports
from fastlm.pretrained import load_pretrained
from fastlm.report.__main__ import main as report
from fastlm.tokenizer.__main__ import main as tokenizer_command
from fastlm.train import train

Main = Callable[[Sequence[str]], object]
MEASURE = "report in/t.txt --tokenizer in/tok --seconds 0"
COMMANDS: dict[str, tuple[Main, str]] = {
    "tokenizer train": (tokenizer_command, "train in/t.txt --vocab-size 280 --out"),
    "tokenizer encode": (tokenizer_command, "encode in/t.txt --tokenizer in/tok --out"),
    "tokenizer report --json": (tokenizer_command, f"{MEASURE} --json"),
    "tokenizer report --md": (tokenizer_command, f"{MEASURE} --md"),
    "report": (report, "in/run --out"),
    "corpus": (corpus, "stories --n-bytes 2000 --valid-bytes 1000 --out"),
    "data prepare": (data_command, "prepare in/t.txt --vocab-size 400 --out"),
    "import tokenizer": (imports, "tokenizer in/tok --out"),
    "import model": (imports, "model in/hf --out"),
    "import tokens": (
        imports,
        "tokens --train in/d/train.bin --val in/d/val.bin --tokenizer in/tok --out",
    ),
    "export hf": (export, "in/run --to hf --out"),
    "export tiktoken": (export, "in/run --to tiktoken --out"),
    "records": (records.main, "in/run --to"),
}
OUTS = (
    "new", "a/b/new", "mine", "my folder", "link to mine", "link to my folder", "dangling", "loop",
    "hard link", "mine/child", "new/..", ".", "", "-", "n" * 250, "in/t.txt", "in/t.txt.part",
    "in/tok", "in/tok/vocab.json", "in/d", "in/d/meta.json", "in/run", "in/run/log.jsonl", "in/hf",
    "in/hf/config.json", "read-only/new", "/dev/null", "/dev/full",
)  # fmt: skip


@pytest.fixture(scope="module")
def inputs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    story = "".join(f"some story {i} of a cat and a dog.\n<|endoftext|>" for i in range(3000))
    (folder / "t.txt").write_text(story)
    shutil.copytree(data, folder / "d")
    shutil.copytree(data / "tokenizer", folder / "tok")
    train(config(data, max_steps=2), folder / "run")
    export_hugging_face(load_pretrained(folder / "run"), folder / "hf")
    environment = folder / "run/environment.json"
    environment.write_text("{}")  # the arguments of pytest name paths, which no record may
    written = (folder / "run/config.json").read_text()
    (folder / "run/config.json").write_text(written.replace(str(data), "d"))
    return folder


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[None]:
    folder = tmp_path / "read-only"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("this user may not mount")
    yield
    subprocess.run(["umount", str(folder)], check=True)


def seen(folder: Path) -> dict[str, str]:
    """Return the content of a folder: links by their targets, files by their hashes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"to {os.readlink(path)}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder"
    return found


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.usefixtures("read_only")
def test_whatever_the_output_is_nothing_is_lost(command, inputs, tmp_path, monkeypatch, capfd):
    main, words = COMMANDS[command]
    n_refused = 0
    for out in OUTS:
        folder = tmp_path / f"{OUTS.index(out)}"
        folder.mkdir()
        monkeypatch.chdir(folder)
        shutil.copytree(inputs, "in")
        Path("mine").write_text("mine")
        Path("my folder").mkdir()
        Path("my folder/thesis.tex").write_text("mine")
        for name, target in (
            ("link to mine", "mine"), ("link to my folder", "my folder"), ("dangling", "nowhere"),
            ("loop", "loop"), ("read-only", "../read-only"),
        ):  # fmt: skip
            Path(name).symlink_to(target)
        os.link("in/t.txt", "hard link")
        before = seen(folder)
        with pytest.raises(SystemExit) as left:
            cli.run(lambda out=out: main([*words.split(), out]))
        told = capfd.readouterr().err
        after = seen(folder)
        assert {name: after.get(name) for name in before} == before, out
        assert left.value.code in (0, 2), (out, told)
        assert not any(OURS in name for name in after), out
        if left.value.code == 2:
            n_refused += 1
            assert told.startswith("error: "), out
            assert told.count("\n") == 1, out
            assert after == before, out
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(folder)
    assert n_refused >= 8
