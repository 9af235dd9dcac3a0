"""Data sets arrive complete from any mirror, wherever a call stops, and replace nothing else."""

import contextlib
import gzip
import hashlib
import json
from pathlib import Path

import pytest
from file_server import Plan, serve_datasets

from fastlm.cli import run
from fastlm.corpus import datasets, download
from fastlm.corpus.__main__ import _mirror, main
from fastlm.corpus.datasets import BASE_URL, DATASETS, fetch_dataset
from fastlm.corpus.download import DownloadError


@pytest.mark.parametrize("name", ["tinystories", "owt"])
def test_dataset_arrives_unpacked_and_once(plan: Plan, tmp_path: Path, name: str) -> None:
    texts = serve_datasets(plan)
    plan.break_after = [20]
    for _ in range(2):
        main([name, "--out", str(tmp_path / "d"), "--base-url", plan.url + "/"])
        names = sorted(path.name for path in (tmp_path / "d").iterdir())
        assert names == ["sources.json", "train.txt", "valid.txt"]
        for file_name in ("train.txt", "valid.txt"):
            assert (tmp_path / "d" / file_name).read_bytes() == texts[f"{name}/{file_name}"]
    assert len(plan.requests) == 3
    records = json.loads((tmp_path / "d" / "sources.json").read_text())
    assert sorted(records) == ["train.txt", "valid.txt"]
    text = texts[f"{name}/train.txt"]
    assert records["train.txt"]["sha256"] == hashlib.sha256(text).hexdigest()
    assert records["train.txt"]["url"] == f"{plan.url}/{DATASETS[name]['train.txt']}"


@pytest.mark.parametrize("stopped_by", ["write_record", "decompress", "_forget"])
@pytest.mark.parametrize("n_before", [0, 1, 2, 3])
def test_wherever_unpacking_stops_the_same_call_ends_it(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_by: str, n_before: int
) -> None:
    texts = serve_datasets(plan)
    original = getattr(datasets, stopped_by)
    n_calls = 0

    def stopping(*arguments: object, **options: object) -> object:
        nonlocal n_calls
        n_calls += 1
        if n_calls > n_before:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        for module in (datasets, download):  # both write records
            if hasattr(module, stopped_by):
                patch.setattr(module, stopped_by, stopping)
        fetch_dataset("owt", tmp_path, base_url=plan.url)
    fetch_dataset("owt", tmp_path, base_url=plan.url)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "sources.json", "train.txt", "valid.txt",
    ]  # fmt: skip
    assert sorted(json.loads((tmp_path / "sources.json").read_text())) == ["train.txt", "valid.txt"]
    for name in ("train.txt", "valid.txt"):
        assert (tmp_path / name).read_bytes() == texts[f"owt/{name}"]
    assert len(plan.requests) == 2


@pytest.mark.parametrize(("first", "second"), [("owt", "tinystories"), ("tinystories", "owt")])
def test_a_data_set_does_not_replace_another(
    plan: Plan, tmp_path: Path, first: str, second: str
) -> None:
    texts = serve_datasets(plan)
    fetch_dataset(first, tmp_path, base_url=plan.url)
    records = json.loads((tmp_path / "sources.json").read_text())
    with pytest.raises(FileExistsError, match=r"train\.txt is of http://.*; give another --out"):
        fetch_dataset(second, tmp_path, base_url=plan.url)
    assert (tmp_path / "train.txt").read_bytes() == texts[f"{first}/train.txt"]
    assert len(plan.requests) == 2
    plan.files |= {f"/mirror{path}": content for path, content in plan.files.items()}
    fetch_dataset(first, tmp_path, base_url=plan.url + "/mirror")
    assert len(plan.requests) == 4
    other = tmp_path / "other"  # a call was killed while it unpacked the file
    other.mkdir()
    (other / "sources.json").write_text(json.dumps({"valid.txt.gz": records["valid.txt"]}))
    with pytest.raises(
        FileExistsError, match=r"valid\.txt\.gz is of http://.*; give another --out"
    ):
        fetch_dataset(second, other, base_url=plan.url)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
PAGE = b"\xef\xbb\xbf\n<!DOCTYPE html><title>Log in</title>"


ANSWERS = {
    "empty": b"",
    "page": PAGE,
    "head": b"<head><title>Log in</title></head>" * 999,
    "comment": b"<!-- proxy --><p>Wait." * 999,
    "kind": b"<p>",
    "xml": b"<?xml?>",
    "pointer": POINTER,
    "line": b"Invalid username or password.",
    "zeros": b"\0" * 9999,
    "zstd": b"\x28\xb5\x2f\xfd" + b"abc" * 9999,
    "zip": b"PK\x03\x04\x14\0\0\0\x08\0" + b"abc" * 9999,
    "utf-16": ("One day. " * 999).encode("utf-16"),
    "utf-16-le": ("One day. " * 999).encode("utf-16-le"),
    "utf-32-be": ("One day. " * 999).encode("utf-32-be"),
    "latin-1": ("Caf\u00e9. " * 999).encode("latin-1"),
}


@pytest.mark.parametrize("name", ["tinystories", "owt"])
def test_what_a_mirror_answers_in_place_of_a_text_is_no_data_set(
    plan: Plan, tmp_path: Path, name: str
) -> None:
    texts = serve_datasets(plan)
    path = "/" + DATASETS[name]["train.txt"]
    whole = plan.files[path]
    for answer, content in ANSWERS.items():
        out = tmp_path / answer
        plan.kind = "text/html; charset=utf-8" if answer == "kind" else None
        # A server may compress without saying so, and a .gz file may have something else inside.
        for sent in (content, gzip.compress(content)):
            plan.files[path] = sent
            with pytest.raises((ValueError, DownloadError), match=r"train\.txt.* expected a "):
                fetch_dataset(name, out, base_url=plan.url)
            assert not list(out.glob("*.txt*")), answer
    plan.files[path], plan.kind = whole, None
    fetch_dataset(name, out, base_url=plan.url)  # the wrong answer is in no one's way
    assert (out / "train.txt").read_bytes() == texts[f"{name}/train.txt"]


def test_a_line_in_place_of_a_text_is_shown(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve_datasets(plan)
    plan.files["/" + DATASETS["tinystories"]["train.txt"]] = ANSWERS["line"]
    with pytest.raises(SystemExit) as stop:
        run(lambda: main(["tinystories", "--out", str(tmp_path), "--base-url", plan.url]))
    assert stop.value.code == 2
    line = capsys.readouterr().err
    assert "expected a text, got 29 bytes, 'Invalid username or password.'; check the" in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("name", ["tinystories", "owt"])
@pytest.mark.parametrize("kind", ["file", "folder", "part", "link"])
def test_what_is_in_the_way_of_the_last_file_is_told_before_the_first_is_fetched(
    plan: Plan, tmp_path: Path, name: str, kind: str
) -> None:
    serve_datasets(plan)
    mine = tmp_path / ("valid.txt.part" if kind == "part" else "valid.txt")
    if (name, kind) == ("owt", "part"):
        mine = tmp_path / "valid.txt.gz.part"
    if kind == "folder":
        mine.mkdir()
    elif kind == "link":
        mine.symlink_to(mine)
    else:
        mine.write_text("mine")
    with pytest.raises(OSError, match=r"valid\.txt"):
        fetch_dataset(name, tmp_path, base_url=plan.url)
    assert plan.requests == []
    assert [path.name for path in tmp_path.iterdir()] == [mine.name]


def test_an_empty_text_that_was_packed_is_no_data_set(plan: Plan, tmp_path: Path) -> None:
    serve_datasets(plan)
    plan.files["/" + DATASETS["owt"]["train.txt"]] = gzip.compress(b"")
    with pytest.raises(ValueError, match=r"owt_train\.txt\.gz: expected a text, got an empty one"):
        fetch_dataset("owt", tmp_path, base_url=plan.url)
    assert not list(tmp_path.glob("*.txt*"))


def test_a_text_of_others_is_not_taken_for_what_a_killed_call_unpacked(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_datasets(plan)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(datasets, "decompress", stop)
        fetch_dataset("owt", tmp_path, base_url=plan.url)
    (tmp_path / "train.txt").write_text("mine")
    with pytest.raises(
        FileExistsError, match=r"train\.txt is there already and is not .* unpacked"
    ):
        fetch_dataset("owt", tmp_path, base_url=plan.url)
    assert (tmp_path / "train.txt").read_text() == "mine"


def test_damaged_archive_is_fetched_again_by_the_next_call(plan: Plan, tmp_path: Path) -> None:
    texts = serve_datasets(plan)
    path = "/" + DATASETS["owt"]["train.txt"]
    whole, plan.files[path] = plan.files[path], plan.files[path][:-9]
    with pytest.raises(ValueError, match="damaged or cut short"):
        fetch_dataset("owt", tmp_path, base_url=plan.url)
    plan.files[path] = whole
    fetch_dataset("owt", tmp_path, base_url=plan.url)
    assert (tmp_path / "train.txt").read_bytes() == texts["owt/train.txt"]


def test_missing_dataset_is_one_line_and_exit_2(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["owt", "--out", str(tmp_path), "--base-url", plan.url]
    with pytest.raises(SystemExit) as stop:
        run(lambda: main(arguments))
    assert stop.value.code == 2
    path = DATASETS["owt"]["train.txt"]
    assert capsys.readouterr().err == f"error: {plan.url}/{path}: HTTP 404 Not Found\n"


@pytest.mark.parametrize(
    ("flag", "mirror", "endpoint", "prefix"),
    [
        (None, None, "", "/datasets"),
        (None, None, "/", "/datasets"),
        (None, "/texts/", "/other", "/texts"),
        (None, "/texts", None, "/texts"),
        ("/mine", "/texts", "/other", "/mine"),
    ],
)
def test_mirrors_of_the_environment_are_used_in_their_order(
    plan: Plan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flag: str | None,
    mirror: str | None,
    endpoint: str | None,
    prefix: str,
) -> None:
    texts = serve_datasets(plan)
    plan.files = {prefix + path: content for path, content in plan.files.items()}
    for name, path in (("FASTLM_MIRROR", mirror), ("HF_ENDPOINT", endpoint)):
        monkeypatch.delenv(name, raising=False)
        if path is not None:
            monkeypatch.setenv(name, plan.url + path)
    flags = [] if flag is None else ["--base-url", plan.url + flag]
    main(["owt", "--out", str(tmp_path), *flags])
    assert (tmp_path / "train.txt").read_bytes() == texts["owt/train.txt"]
    assert [r["path"].startswith(prefix + "/") for r in plan.requests] == [True, True]
    told = capsys.readouterr().err
    if flag is None:
        name = "HF_ENDPOINT" if mirror is None else "FASTLM_MIRROR"
        assert f"as {name} says" in told
    else:
        assert "says" not in told
    # The written files are checked as ever: one that is missing is fetched again.
    records = json.loads((tmp_path / "sources.json").read_text())
    sha256 = hashlib.sha256(texts["owt/train.txt"]).hexdigest()
    assert records["train.txt"]["sha256"] == sha256
    (tmp_path / "train.txt").unlink()
    main(["owt", "--out", str(tmp_path), *flags])
    assert (tmp_path / "train.txt").read_bytes() == texts["owt/train.txt"]
    assert len(plan.requests) == 3


@pytest.mark.parametrize("name", ["FASTLM_MIRROR", "HF_ENDPOINT", "--base-url"])
def test_a_mirror_that_is_no_address_is_one_line_and_nothing_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    for variable in ("FASTLM_MIRROR", "HF_ENDPOINT"):
        monkeypatch.delenv(variable, raising=False)
    flags = ["--base-url", "hf-mirror.com"] if name == "--base-url" else []
    if not flags:
        monkeypatch.setenv(name, "hf-mirror.com")
    with pytest.raises(SystemExit) as stop:
        run(lambda: main(["owt", "--out", str(tmp_path / "d"), *flags]))
    assert stop.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {name} must be the http:// or https:// address of a mirror: ")
    assert line.count("\n") == 1
    assert not (tmp_path / "d").exists()


def test_without_mirrors_data_sets_come_from_their_home() -> None:
    assert _mirror(None, {}) == _mirror(None, {"FASTLM_MIRROR": "", "HF_ENDPOINT": ""}) == BASE_URL
