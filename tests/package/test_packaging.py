"""The wheel works away from the checkout, and beside another package that is called kernels."""

import email
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import packages
import pytest

from fastlm import __version__
from fastlm.cli.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="programs lie elsewhere there")

TINY = [
    "--model.n-layers", "1", "--model.d-model", "16", "--model.n-heads", "2",
    "--model.context-length", "16", "--batch-size", "2", "--eval-tokens", "256", "--device", "cpu", "--no-compile",
]  # fmt: skip


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """Return the folder of the unpacked sdist."""
    folder = tmp_path_factory.mktemp("sdist")
    return packages.unpack(packages.build_sdist(folder), tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def wheel(sources, tmp_path_factory) -> Path:
    return packages.build_wheel(sources, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory) -> Path:
    """The bin folder of an environment in which the wheel is installed."""
    bin_folder = packages.new_environment(tmp_path_factory.mktemp("environment") / "venv")
    packages.install(wheel, bin_folder, "--no-deps", "--no-index")
    return bin_folder


def tracked_files() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("no checkout: nothing says which files are sources")
    return done.stdout.split("\n")[:-1]


def test_the_sdist_has_every_file_of_the_checkout(sources):
    missing = [name for name in tracked_files() if not (sources / name).is_file()]
    assert [name for name in missing if (ROOT / name).is_file()] == []


def test_the_wheel_has_the_package_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"fastlm", f"fastlm-{__version__}.dist-info"}
    for folder, inside in (("fastlm", "fastlm"), ("kernels", "fastlm/kernels")):
        for path in (ROOT / folder).rglob("*.py"):
            assert f"{inside}/{path.relative_to(ROOT / folder).as_posix()}" in names
    assert "fastlm/py.typed" in names
    pages = [
        path.name
        for path in (ROOT / "fastlm" / "report" / "page_parts").iterdir()
        if path.is_file()
    ]
    assert len(pages) >= 5
    assert {f"fastlm/report/page_parts/{name}" for name in pages} <= set(names)


def test_its_metadata_say_what_it_is(wheel):
    files = zipfile.ZipFile(wheel)
    of = f"fastlm-{__version__}.dist-info"
    said = email.message_from_bytes(files.read(f"{of}/METADATA"))
    assert (said["Name"], said["Version"]) == ("fastlm", __version__)
    assert said["License-Expression"] == "MIT"
    assert said["Requires-Python"] == ">=3.11"
    assert files.read(f"{of}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "fastlm = fastlm.cli.commands:main" in files.read(f"{of}/entry_points.txt").decode()


# In one process, which imports what is slow once.
IN_TURN = """
import sys
from fastlm.cli.commands import main

for words in {words!r}:
    sys.argv[:] = ["fastlm", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)
"""


@pytest.mark.slow
def test_it_trains_generates_and_exports_from_another_folder(programs, tmp_path):
    program = programs / "fastlm"
    said = packages.run(program, "--version", cwd=tmp_path).stdout
    assert said == f"fastlm {__version__}\n"
    (tmp_path / "text.txt").write_text("Once upon a time.\n<|endoftext|>\n" * 500)
    words = [
        ["data", "prepare", "text.txt", "--vocab-size", "300", "--out", "d"],
        ["train", "--recipe", "stories", "--data", "d", "--max-steps", "2", "--out", "run", *TINY],
        ["export", "run", "--to", "hf", "--out", "hf"],
        ["report", "run", "--out", "report.html"],
    ]  # fmt: skip
    packages.run(programs / "python", "-c", IN_TURN.format(words=words), cwd=tmp_path)
    told = packages.run(program, "generate", "run", "--prompt", "Once", "--max-tokens", "5", "--device", "cpu", cwd=tmp_path)  # fmt: skip
    assert told.stdout.startswith("Once")
    environment = json.loads((tmp_path / "run/environment.json").read_text())
    assert environment["commit"] == "unknown"
    vocab_size = json.loads((tmp_path / "d/meta.json").read_text())["vocab_size"]
    assert json.loads((tmp_path / "hf/config.json").read_text())["vocab_size"] == vocab_size
    assert (tmp_path / "report.html").stat().st_size > 10_000


@pytest.fixture(scope="module")
def another_kernels(tmp_path_factory) -> Path:
    """A folder with a package of the name and some of the names of Hugging Face's."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "kernels").mkdir()
    (folder / "kernels" / "__init__.py").write_text("def get_kernel(repo_id): return repo_id\n")
    return folder


LOAD = "from fastlm.ops import load_kernels; k = load_kernels(); print(k.__name__, k.__file__, sep='\\n')"
THEIRS = "import kernels; print(kernels.get_kernel('theirs'))"


@pytest.mark.slow
def test_the_wheels_kernels_are_found_beside_another_package_of_that_name(
    programs, another_kernels, tmp_path
):
    pytest.importorskip("triton")
    said = packages.run(
        programs / "python", "-c", f"{THEIRS}; import transformers.models.llama; {LOAD}",
        cwd=tmp_path, PYTHONPATH=str(another_kernels),
    ).stdout.splitlines()  # fmt: skip
    assert said[:2] == ["theirs", "fastlm.kernels"]
    assert Path(said[2]).is_relative_to(programs.parent)


@pytest.mark.slow
def test_an_editable_install_knows_its_kernels_wherever_python_starts(
    sources, another_kernels, tmp_path
):
    pytest.importorskip("triton")
    checkout = shutil.copytree(sources, tmp_path / "checkout")
    bin_folder = packages.new_environment(tmp_path / "venv")
    pip = [sys.executable, "-m", "pip", "--python", bin_folder / "python", "install", "--quiet"]
    packages.run(*pip, "--no-deps", "--no-index", "--no-build-isolation", "--editable", checkout, cwd=tmp_path)  # fmt: skip
    ours = str(checkout / "kernels" / "__init__.py")
    said = packages.run(
        bin_folder / "python", "-c", f"{THEIRS}; {LOAD}", cwd=tmp_path, PYTHONPATH=str(another_kernels)
    )  # fmt: skip
    assert said.stdout.splitlines() == ["theirs", "fastlm.kernels", ours]


def test_every_command_of_the_wheel_says_what_it_takes(programs, tmp_path):
    said = packages.run(programs / "fastlm", "--help", cwd=tmp_path).stdout
    assert all(f"\n  {verb} " in said for verb in COMMANDS)
    said = packages.run(programs / "fastlm", "train", "--help", cwd=tmp_path).stdout
    assert said.startswith("usage: fastlm train ")


def test_without_a_checkout_a_sweep_is_not_submitted(programs, tmp_path):
    words = ["sweep", "s", "--seeds", "0", "1", "--slurm", "--data", "d", "--max-steps", "1"]
    done = packages.attempt(programs / "fastlm", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert "--slurm needs a checkout of fastlm" in done.stderr
