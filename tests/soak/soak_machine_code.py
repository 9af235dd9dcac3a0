"""The file of machine code survives kills, full disks and many processes: never wrong, never an error."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A program whose file lies in a folder, with the one kernel that compiles in a second.
BEGIN = """
import json, resource, sys, warnings
from pathlib import Path
from fastlm.tokenizer.bpe import build, compiler, decode, machine_code
build.import_all = lambda: None
compiler.KERNELS[:] = [decode._decode]
compiler.SHARED[:] = []
folder = Path(sys.argv[1])
machine_code.places = lambda: [machine_code._Place(folder, False)]
"""
USE = """
import numpy as np
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    decoder = decode.Decoder(b"abc", np.array([0, 1, 3]))
    text = decoder.decode(np.array([1, 0, 1])).decode()
print(json.dumps([text, [str(warning.message) for warning in caught]]))
"""


def program(*parts: str) -> list[str]:
    return [sys.executable, "-c", BEGIN + "".join(parts)]


def run(folder: Path, *parts: str) -> tuple[str, list[str]]:
    done = subprocess.run(
        [*program(*parts, USE), str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    text, warned = json.loads(done.stdout)
    return text, warned


WRITE = """
import sys
from pathlib import Path
from fastlm.tokenizer.bpe import machine_code
from fastlm.files import disk
content = Path(sys.argv[2]).read_bytes()
machine_code.places = lambda: [machine_code._Place(Path(sys.argv[1]), False)]
print("ready", flush=True)
while True:
    machine_code._keep(machine_code.key(), content)
"""


def kept_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith("kernels-")]


def test_two_hundred_kills_while_it_is_written_leave_it_whole_or_absent(tmp_path):
    assert run(tmp_path / "whole") == ("bcabc", [])
    (whole,) = kept_in(tmp_path / "whole")
    folder = tmp_path / "kept"
    rng = random.Random(5)
    n_there = 0
    for _ in range(200):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE, str(folder), str(whole)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.random() * 0.03)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        for file in kept_in(folder) if folder.is_dir() else []:
            assert file.read_bytes() == whole.read_bytes()
            n_there += 1
            if rng.random() < 0.5:
                file.unlink()
    assert n_there > 0
    assert run(folder) == ("bcabc", [])
    assert kept_in(folder) == [folder / whole.name]


@pytest.mark.parametrize("n", [2, 8])
def test_processes_that_compile_at_once_leave_one_whole_file(tmp_path, n):
    begun = [
        subprocess.Popen(
            [*program(USE), str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(n)
    ]
    for process in begun:
        out, error = process.communicate()
        assert (json.loads(out), error) == (["bcabc", []], "")
    assert len(kept_in(tmp_path)) == 1
    assert run(tmp_path, "machine_code.build = None\n") == ("bcabc", [])


@pytest.mark.parametrize("n_bytes", [0, 1, 100])
def test_a_full_disk_is_told_once_and_leaves_nothing(tmp_path, n_bytes):
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({n_bytes}, {n_bytes}))\n"
    text, warned = run(tmp_path, limit)
    assert text == "bcabc"
    (line,) = warned
    assert "File too large" in line
    assert not kept_in(tmp_path)
    assert run(tmp_path) == ("bcabc", [])


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs another user")
def test_a_folder_that_cannot_be_written_is_told_once(tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    tmp_path.chmod(0o755)
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_mode & 0o005 != 0o005:
            pytest.skip(f"another user cannot enter {path}")
    text, warned = run(folder, "import os\nos.setuid(65534)\n")
    assert text == "bcabc"
    assert len(warned) == 1
    assert "cannot be written to" in warned[0]


def test_a_clock_that_is_wrong_changes_nothing(tmp_path):
    assert run(tmp_path) == ("bcabc", [])
    (file,) = kept_in(tmp_path)
    for moment in (0, 1 << 32):
        os.utime(file, (moment, moment))
        assert run(tmp_path, "machine_code.build = None\n") == ("bcabc", [])
