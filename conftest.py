"""Settings every test shares: seeds, devices, and where test data of others may lie."""

import gc
import os
import re
import signal
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

# Tests that run side by side have a core each: threads that wait for each other would take turns.
# Modules and tests are made to stay: no garbage is looked for among them.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    gc.disable()

import torch

# A shell lets what it starts in the background ignore Ctrl-C, which some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in each run, kept in no folder, and however long one of them takes.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

# Triton reads this when its kernels are decorated, so it has to be set before any import of them.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


class OfKernels(pytest.Module):
    """A file of tests of Triton's kernels, where there is no Triton."""

    def collect(self) -> NoReturn:
        raise pytest.skip.Exception("needs Triton", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> OfKernels | None:
    if find_spec("triton"):
        return None
    text = module_path.read_text(encoding="utf-8")
    if re.search(r"^(?:from|import) (?:kernels|triton)\b", text, re.MULTILINE) is None:
        return None
    return OfKernels.from_parent(parent, path=module_path)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests that need a GPU, or kernels run on the CPU, where that is not so.

    One process does one of the two: Triton interprets all kernels, torch.compile's too, or none.
    """
    gc.freeze()
    gc.enable()
    _longest_files_first(items)
    marked = [
        (item, name)
        for item in items
        for name in ("gpu", "interpreter", "generated")
        if item.get_closest_marker(name)
    ]
    if not marked:
        return
    # Triton is there on Linux alone.
    is_interpreted = find_spec("triton") and import_module("kernels.launch").INTERPRETED
    reasons = {}
    if not find_spec("triton"):
        reasons["interpreter"] = "needs Triton"
    elif not is_interpreted:
        remedy = "TRITON_INTERPRET=1 pytest -m interpreter"
        reasons["interpreter"] = f"kernels are compiled here: {remedy}"
    if not torch.cuda.is_available():
        reasons["gpu"] = "needs a CUDA device"
    elif is_interpreted:
        reasons["gpu"] = "kernels are interpreted on the CPU here: unset TRITON_INTERPRET"
    if " " in torch.__file__:
        reasons["generated"] = "Inductor does not quote the path of PyTorch, which has a blank"
    for item, name in marked:
        if name in reasons:
            item.add_marker(pytest.mark.skip(reason=reasons[name]))


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores: some tests wait, for Slurm, a clock or another process."""
    return (os.cpu_count() or 1) + 1


def _longest_files_first(items: list[pytest.Item]) -> None:
    """Put the files of tests in the order of the time that their marks promise.

    Side by side each file goes to the next process that is free: one that takes minutes must not be
    the last to be begun.
    """
    seconds: dict[Path, float] = defaultdict(float)
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        is_skipped = "gpu" in marks and not torch.cuda.is_available()
        for mark, each in (("slurm", 40.0), ("slow", 5.0), ("interpreter", 0.1)):
            if mark in marks and not is_skipped:
                seconds[item.path] += each
                break
    items.sort(key=lambda item: -seconds[item.path])


@pytest.fixture(scope="session", autouse=True)
def tuned_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder in place of that of the user's files of fastlm.tune: runs would use them."""
    folder = tmp_path_factory.mktemp("tuned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTLM_TUNED_DIR", str(folder))
        yield folder


@pytest.fixture(scope="session")
def text_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with real texts (FASTLM_TEXT, else shared/data beside the checkout), decompressed.

    Tests that use it are skipped where no such folder exists: the texts are not ours to ship.
    """
    given = os.environ.get("FASTLM_TEXT")
    if given:
        return Path(given)
    root = Path(__file__).resolve().parent
    for shared in (root / "shared" / "data", root.parent / "shared" / "data"):
        if shared.is_dir():
            return _decompressed(shared, tmp_path_factory)
    pytest.skip("no real texts here: set FASTLM_TEXT to a folder that holds them")


def _decompressed(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import lzma
    import shutil
    import tarfile

    folder = tmp_path_factory.mktemp("text")
    for name in ("tinystories_train", "tinystories_valid", "owt_sample", "mix_valid"):
        packed = shared / f"{name}.txt.xz"
        if packed.exists():
            with lzma.open(packed) as source, open(folder / f"{name}.txt", "wb") as out:
                shutil.copyfileobj(source, out)
    if (shared / "unicode.tar.xz").exists():
        with tarfile.open(shared / "unicode.tar.xz") as archive:
            # The filter is newer than Python 3.11.0.
            archive.extractall(
                folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {})
            )
    if (shared / "gpt2").is_dir():
        shutil.copytree(shared / "gpt2", folder / "gpt2")
    return folder
