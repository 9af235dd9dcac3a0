"""Commands of fastlm as a user types them, in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastlm import cli

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = Path(__file__).resolve().parent

TINY = [
    "--model.n-layers", "1", "--model.d-model", "16", "--model.n-heads", "2",
    "--model.context-length", "16", "--batch-size", "4", "--log-every", "1", "--device", "cpu",
]  # fmt: skip


def fastlm(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-m", f"fastlm.{words[0]}", *words[1:]],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def check_refused(
    main: Callable[[], object], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Run a command in this process, where slow imports are done; it exits with 2 and one line."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as left:
        cli.run(main)
    out, told = capfd.readouterr()
    assert (left.value.code, out) == (2, ""), told
    assert told.count("\n") == 1, told
    assert told.startswith("error: ")
    assert message in told


def torchrun(*arguments: object, n: int = 2) -> subprocess.Popen[str]:
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(SUPPORT)]),
    }
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *(f"--nproc-per-node={n}", "--signals-to-handle=SIGTERM,SIGINT,SIGUSR1,SIGUSR2"),
            *map(str, arguments),
        ],
        env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
