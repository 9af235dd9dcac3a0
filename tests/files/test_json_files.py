"""JSON files: an object is read or refused in one line, and written as other programs write it."""

import json
import os
from collections.abc import Callable

import pytest
from waiting import in_time

from fastlm.corpus.generated import make_stories
from fastlm.corpus.parquet import check_parquet
from fastlm.data import prepare
from fastlm.files import json_files
from fastlm.files.compression import read_blocks

NO_OBJECTS = [
    b"",
    b"{",
    b"\xff",
    b'{"a": "\xff"}',
    b"[" * 100_000,
    b'{"a": ' * 100_000,
    b"[1]",
    b"null",
    b'"text"',
]


@pytest.mark.parametrize("raw", NO_OBJECTS)
def test_what_is_no_object_is_refused_in_one_line_or_read_as_empty(raw, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"a\.json: expected a JSON object, got ") as raised:
        json_files.read_object(path)
    assert "\n" not in str(raised.value)
    assert json_files.read_object_or_empty(path) == {}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path):
    for name in ("a.json", "a.txt", "a.gz", "a.xz", "a.zst", "a.parquet"):
        path = tmp_path / name
        os.mkfifo(path)
        readings: dict[str, Callable[[], object]] = {
            ".json": lambda: json_files.read_object(path),  # noqa: B023
            ".parquet": lambda: check_parquet(path, "text"),  # noqa: B023
        }
        read = readings.get(path.suffix, lambda: list(read_blocks(path, 1)))  # noqa: B023
        with pytest.raises((OSError, ValueError), match="expected a (regular|whole)"), in_time():
            read()


@pytest.mark.parametrize("name", ["corpus.json", "sources.json"])
def test_a_folder_named_like_a_description_is_no_hindrance(name, tmp_path):
    (tmp_path / "in" / name).mkdir(parents=True)
    (tmp_path / "in/a.txt").write_text("some text")
    prepare(tmp_path / "in", tmp_path / "d", vocab_size=257)
    assert (tmp_path / "d/meta.json").is_file()


def test_an_object_is_read_and_a_missing_one_is_empty(tmp_path):
    path = tmp_path / "a.json"
    assert json_files.read_object_or_empty(path) == {}
    with pytest.raises(FileNotFoundError):
        json_files.read_object(path)
    path.write_bytes(b'{"a": [1, "\xc3\xa9"]}')
    assert json_files.read_object(path) == json_files.read_object_or_empty(path) == {"a": [1, "é"]}


def test_what_is_written_is_what_json_writes(tmp_path):
    values = {"b": [1, 2.5], "a": {"é": None}}
    assert json_files.to_json(values).decode() == json.dumps(values, indent=2) + "\n"
    lines = json_files.to_json(values, indent=0, is_ascii=False)
    assert lines == '{\n"b": [\n1,\n2.5\n],\n"a": {\n"é": null\n}\n}\n'.encode()
    keys = [*json.loads(json_files.to_json(values, sort_keys=True))]
    assert keys == ["a", "b"]


def test_a_name_that_is_not_utf8_comes_back(tmp_path):
    values = {"name": os.fsdecode(b"caf\xe9.txt")}
    (tmp_path / "a.json").write_bytes(json_files.to_json(values))
    assert json_files.read_object(tmp_path / "a.json") == values


@pytest.mark.parametrize("raw", NO_OBJECTS)
def test_folders_with_another_file_of_that_name_are_refused_in_one_line(raw, tmp_path):
    for name in ("corpus.json", "meta.json"):
        (tmp_path / name).write_bytes(raw)
    with pytest.raises(ValueError, match=r"corpus\.json exists and is not of generated stories"):
        make_stories(tmp_path, n_bytes=1000, valid_bytes=1000)
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(FileExistsError, match="is not empty and holds no prepared data"):
        prepare(tmp_path / "a.txt", tmp_path, vocab_size=300)
    assert (tmp_path / "corpus.json").read_bytes() == (tmp_path / "meta.json").read_bytes() == raw
