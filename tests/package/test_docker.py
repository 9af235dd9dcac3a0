"""The Dockerfile, as far as it can be looked at without Docker."""

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
IGNORED = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def instructions(name: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name} +(.*)$", joined, re.MULTILINE)


def copied() -> list[str]:
    return [source for line in instructions("COPY") for source in line.split()[:-1]]


def test_what_it_copies_is_there_and_is_sent():
    assert len(copied()) >= 4
    assert IGNORED[0] == "*"
    for source in copied():
        assert (ROOT / source).exists(), source
        assert f"!{source}" in IGNORED


def test_it_copies_all_that_the_wheel_is_built_of():
    tool, project = PROJECT["tool"]["setuptools"], PROJECT["project"]
    folders = {tool["package-dir"].get(name, name.split(".")[0]) for name in tool["packages"]}
    needed = folders | {project["readme"], *project["license-files"], "pyproject.toml"}
    assert needed == set(copied())


def test_what_it_starts_is_the_program_as_a_user_without_rights():
    (entry,) = instructions("ENTRYPOINT")
    assert json.loads(entry)[0] in PROJECT["project"]["scripts"]
    assert instructions("USER") == ["1000"]  # a number, which a host can check
    assert "useradd --create-home --uid 1000 fastlm" in DOCKERFILE


def test_its_python_is_one_that_the_package_takes():
    (image,) = instructions("FROM")
    version = tuple(map(int, re.fullmatch(r"python:(\d+)\.(\d+)-slim", image).groups()))
    oldest = tuple(map(int, PROJECT["project"]["requires-python"].removeprefix(">=").split(".")))
    assert version >= oldest


def test_it_has_a_c_compiler():
    assert any("apt-get install" in line and " gcc " in line for line in instructions("RUN"))
