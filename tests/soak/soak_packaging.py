"""A full install from the registries into an empty environment: minutes, gigabytes, a network."""

import subprocess
import sys
from pathlib import Path

import packages
import pytest

from fastlm import __version__

TEXT = "Once upon a time there was a fox.\n<|endoftext|>\n" * 500
FLAGS = [
    "--model.n-layers", "1", "--model.d-model", "16", "--model.n-heads", "2", "--model.context-length", "16",
    "--batch-size", "2", "--eval-tokens", "256", "--max-steps", "2", "--device", "cpu", "--no-compile",
]  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    sources = packages.unpack(packages.build_sdist(folder), tmp_path_factory.mktemp("sources"))
    return packages.build_wheel(sources, folder)


@pytest.mark.parametrize(
    "others", [[], ["transformers>=4.56", "kernels"]], ids=["alone", "beside Hugging Face's"]
)
def test_a_full_install_works(others, wheel, tmp_path):
    """It works alone, and with the other package kernels installed both before and after ours."""
    packages.run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    bin_folder = tmp_path / "venv" / "bin"
    pip = [bin_folder / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if others:
        packages.run(*pip, *others, cwd=tmp_path)
    packages.run(*pip, wheel, cwd=tmp_path)
    if others:
        packages.run(*pip, "--no-deps", "--force-reinstall", "kernels", cwd=tmp_path)
    packages.run(bin_folder / "python", "-m", "pip", "check", cwd=tmp_path)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    program = bin_folder / "fastlm"
    assert packages.run(program, "--version", cwd=tmp_path).stdout == f"fastlm {__version__}\n"
    for words in (
        ["doctor", "--compile"],
        ["data", "prepare", "text.txt", "--vocab-size", "300", "--out", "d"],
        ["train", "--recipe", "stories", "--data", "d", "--out", "run", *FLAGS],
        ["generate", "run", "--prompt", "Once", "--max-tokens", "4", "--device", "cpu"],
        ["export", "run", "--to", "hf", "--out", "hf"],
        ["train", "--out", "of-stories", *FLAGS],  # which it makes first
    ):
        done = packages.attempt(program, *words, cwd=tmp_path)
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    load = "from fastlm.ops import load_kernels; print(load_kernels().__name__)"
    if sys.platform == "linux":
        said = packages.run(bin_folder / "python", "-c", load, cwd=tmp_path).stdout
        assert said == "fastlm.kernels\n"
    if others:
        use = "import transformers, kernels; print(kernels.get_kernel.__name__)"
        assert packages.run(bin_folder / "python", "-c", use, cwd=tmp_path).stdout == "get_kernel\n"


def test_uv_installs_it_too(wheel, tmp_path):
    """uv is fetched into an environment of its own, and given the wheel alone."""
    packages.run(sys.executable, "-m", "venv", tmp_path / "uv", cwd=tmp_path)
    python = tmp_path / "uv" / "bin" / "python"
    packages.run(python, "-m", "pip", "install", "--quiet", "uv", cwd=tmp_path)
    uv = tmp_path / "uv" / "bin" / "uv"
    packages.run(uv, "venv", "--python", sys.executable, tmp_path / "venv", cwd=tmp_path)
    at = tmp_path / "venv" / "bin" / "python"
    packages.run(uv, "pip", "install", "--quiet", "--python", at, "--no-deps", wheel, "tyro", "rich", cwd=tmp_path)  # fmt: skip
    said = subprocess.run(
        [tmp_path / "venv/bin/fastlm", "--version"], capture_output=True, text=True
    )
    assert said.stdout == f"fastlm {__version__}\n"
