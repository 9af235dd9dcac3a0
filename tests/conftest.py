"""Data and runs that several test files read. Made once, so nothing may change them."""

import functools
import gc
import os
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def nothing_is_left_in_the_checkout():
    """Tests write below tmp_path; side by side, the one that is blamed may be another's neighbour."""
    before = set(os.listdir(ROOT))
    yield
    left = {name for name in set(os.listdir(ROOT)) - before if not name.startswith(".")}
    assert not left, f"left in {ROOT}: {left}"


@pytest.fixture(autouse=True)
def _frozen() -> None:
    """Keep objects that exist before a test out of the garbage collections during it."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write an empty picture for each figure: to render one takes as long as a short run.

    Tests of figures have the marker `figures`.
    """
    if request.node.get_closest_marker("figures") is None:
        from pictures import write_picture

        from fastlm.runs import plot

        monkeypatch.setattr(plot, "save_figure", lambda figure, out: write_picture(out))
        if finishing := sys.modules.get("fastlm.train.finishing"):
            monkeypatch.setattr(
                finishing, "plot_curves", lambda rows, out, *, title: write_picture(out)
            )


@pytest.fixture
def without_code_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile traces, checks and partitions graphs as ever, and runs them operation by operation.

    The C++ code that Inductor makes of a graph takes 10 to 60 seconds to compile: tests in which
    that code itself is not the claim do without.
    """
    import torch

    backend = "aot_eager_decomp_partition"
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))


@pytest.fixture(scope="module", params=["python", "kernels"])
def path_taken(request: pytest.FixtureRequest):
    """Small texts are handled in Python, by default; all must be the same where kernels do it."""
    from fastlm.tokenizer.bpe import lazy_encoder, learn, machine_code, token_bytes

    with pytest.MonkeyPatch.context() as patch:
        if request.param == "python":
            patch.setattr(machine_code, "is_at_hand", lambda: False)
        else:
            patch.setattr(learn, "TINY_BYTES", -1)
            patch.setattr(learn, "SMALL_BYTES", -1)
            patch.setattr(lazy_encoder, "SMALL_CHARACTERS", -1)
            patch.setattr(token_bytes, "KERNEL_TOKENS", 1)
        yield request.param


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared folder of generated stories with a vocabulary of 400."""
    from fastlm.corpus.stories import generate_stories
    from fastlm.data import prepare

    folder = tmp_path_factory.mktemp("text")
    for i, (name, n_bytes) in enumerate((("train", 60_000), ("valid", 6_000))):
        text = "<|endoftext|>".join(generate_stories(seed=i, n_bytes=n_bytes))
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return prepare(folder, folder / "prepared", vocab_size=400)


@pytest.fixture(scope="session")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory):
    """Folder and summary of short_runs.config, run to its end."""
    from short_runs import config

    from fastlm.train import train

    run = tmp_path_factory.mktemp("runs") / "finished"
    return run, train(config(data), run)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    """290 tokens, the last of them <|endoftext|>."""
    from tokenizer_cases import END, TEXT

    from fastlm.tokenizer import Tokenizer, train_bpe

    text = tmp_path_factory.mktemp("text") / "text.txt"
    text.write_text(TEXT * 3, encoding="utf-8")
    return Tokenizer(*train_bpe(text, 290, [END]), [END])


@pytest.fixture(scope="module")
def cluster():
    """A Slurm of one node; the scripts in slurm/ are submitted to it."""
    from slurm_controller import Controller

    # Its configuration knows no blanks in a path, and a socket's path has at most 107 bytes.
    with (
        tempfile.TemporaryDirectory(prefix="fastlm-slurm-", dir="/tmp") as folder,
        Controller(Path(folder)) as controller,
    ):
        yield controller


@pytest.fixture(scope="module")
def prepared_by_a_job(cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data made by slurm/prepare.sh."""
    from slurm_jobs import output, submit

    from fastlm.corpus import make_stories

    folder = tmp_path_factory.mktemp("jobs")
    text = make_stories(folder / "text", n_bytes=60_000, valid_bytes=6_000)
    job = submit(
        cluster, folder, "prepare.sh", TEXT=str(text), DATA=str(folder / "d"), VOCAB_SIZE="300"
    )
    assert cluster.wait_for_end(job) == "COMPLETED", output(folder, job)
    assert (folder / "d/meta.json").exists()
    return folder / "d"
