"""Token files that other tools made are imported as prepared data."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from short_runs import config

from fastlm.data import open_prepared
from fastlm.files import disk
from fastlm.imports import foreign_tokens, import_tokens
from fastlm.imports.__main__ import main
from fastlm.imports.foreign_tokens import HEADER_BYTES, ForeignTokens, open_foreign
from fastlm.tokenizer import Tokenizer
from fastlm.train import train


def token_file(path: Path, ids, *, header=None, dtype="<u2") -> Path:
    start = np.zeros(HEADER_BYTES // 4, "<i4")
    if header is not None:
        start[: len(header)] = header
    path.write_bytes(
        (b"" if header is None else start.tobytes()) + np.asarray(ids, dtype).tobytes()
    )
    return path


def ids_of(found: ForeignTokens) -> np.ndarray:
    return np.concatenate(list(found.blocks()))


def test_token_files_become_a_prepared_folder(data, tmp_path):
    """nanoGPT's files have no header; llm.c's and modded-nanogpt's have one, in several shards."""
    prepared = open_prepared(data)
    tokens = np.asarray(prepared.train.tokens)
    half = len(tokens) // 2
    one = token_file(tmp_path / "a.bin", tokens[:half], header=[20240520, 1, half])
    two = token_file(
        *(tmp_path / "b.bin", tokens[half:]), header=[20240801, 7, len(tokens) - half], dtype="<u4"
    )
    val = token_file(tmp_path / "val.bin", prepared.val.tokens)
    out = tmp_path / "out"
    main(
        [
            "tokens",
            "--train",
            str(one),
            str(two),
            "--val",
            str(val),
            "--out",
            str(out),
            "--tokenizer",
            str(data / "tokenizer"),
        ]
    )
    found = open_prepared(out)
    found.verify()
    assert np.array_equal(found.train.tokens, tokens)
    assert np.array_equal(found.val.tokens, prepared.val.tokens)
    assert found.train.text_bytes == prepared.train.text_bytes
    assert found.val.text_bytes == prepared.val.text_bytes
    assert found.tokenizer_hash == prepared.tokenizer_hash
    train(config(out, max_steps=1), tmp_path / "run")


def test_token_files_of_another_kind_are_refused_by_name(data, tmp_path):
    good = token_file(tmp_path / "good.bin", [1, 2, 3])
    cases = {
        "no such token file": tmp_path / "none.bin",
        "is empty": token_file(tmp_path / "empty.bin", []),
        "has version 2 of its format: expected 1": token_file(
            tmp_path / "version.bin", [1], header=[20240520, 2, 1]
        ),
        "should have 9 tokens, says its header": token_file(
            tmp_path / "short.bin", [1], header=[20240520, 1, 9]
        ),
        "cut off in its header": token_file(tmp_path / "head.bin", [20240520, 1], dtype="<i4"),
        "is a NumPy array": tmp_path / "array.bin",
        "is text: expected token ids; python -m fastlm.data prepare": tmp_path / "story.txt",
        "is the index of Megatron's tokens, not the tokens": tmp_path / "a.idx",
        "no whole number of uint16": tmp_path / "odd.bin",
        "token 60000 at position 1 does not belong": token_file(tmp_path / "id.bin", [5, 60000]),
    }
    np.save((tmp_path / "array.bin").open("wb"), np.arange(4))
    (tmp_path / "odd.bin").write_bytes(b"123")
    (tmp_path / "story.txt").write_text("Once upon a time there was a caf\u00e9.\n" * 99)
    (tmp_path / "a.idx").write_bytes(b"MMIDIDX\0\0" + bytes(30))
    for named, path in cases.items():
        with pytest.raises((ValueError, FileNotFoundError), match=named):
            import_tokens([good], [path], data / "tokenizer", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("x")
    with pytest.raises(FileExistsError, match="is there already"):
        import_tokens([good], [good], data / "tokenizer", tmp_path / "out")


def test_wide_tokens_are_not_read_as_pairs_for_an_id_above_the_narrow_ones(data, tmp_path):
    ids = [10, 20, 30, 40] * 40
    ids[77] = 65541  # 5 and 1 as two numbers of two bytes
    path = token_file(tmp_path / "a.bin", ids, dtype="<u4")
    vocab_size = open_prepared(data).vocab_size
    with pytest.raises(ValueError, match=r"a\.bin: every second token is below 16, as if it were"):
        open_foreign(path, vocab_size, None)
    with pytest.raises(ValueError, match="token 65541 at position 77 does not belong"):
        open_foreign(path, vocab_size, "uint32")


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_a_dtype_that_is_given_is_taken(dtype, tmp_path):
    """Numbers between commas are ids of which every second one is small."""
    path = token_file(tmp_path / "a.bin", [99, 0] * 40, dtype=np.dtype(dtype))
    with pytest.warns(UserWarning, match=f"a.bin: every second .* read as --dtype {dtype} says$"):
        assert ids_of(open_foreign(path, 300, dtype)).tolist() == [99, 0] * 40


@pytest.mark.parametrize("text", ["Once upon a time. ", "\u0416\u0438\u043b-\u0431\u044b\u043b "])
@pytest.mark.parametrize("width", [16, 32])
def test_text_whose_characters_are_ids_is_asked_for(text, width, data, tmp_path):
    """All characters of English or Russian in UTF-16 are ids of a vocabulary of some thousands."""
    tokens = [bytes([i]) for i in range(256)] + [b"Once%d" % i for i in range(1800)]
    merges = [(b"O", b"n"), (b"On", b"c"), (b"Onc", b"e"), (b" ", b"t"), (b"i", b"m")]
    tokens += [left + right for left, right in merges]
    Tokenizer(dict(enumerate(tokens)), merges, ["<|endoftext|>"]).save(tmp_path / "tok")
    path = tmp_path / "a.bin"
    path.write_bytes((text * 60).encode(f"utf-{width}-le"))
    val = token_file(tmp_path / "val.bin", [1, 2])
    named = r"a\.bin(: every second number| seems to be text in UTF-16: .* give --dtype uint16)"
    with pytest.raises(ValueError, match=named):
        import_tokens([path], [val], tmp_path / "tok", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    if width == 16:
        import_tokens([path], [val], tmp_path / "tok", tmp_path / "out", dtype="uint16")
        assert len(open_prepared(tmp_path / "out").train.tokens) == len(text) * 60


def test_ids_of_text_in_single_bytes_are_imported(tmp_path):
    """A vocabulary of bytes makes the ids that the same text is in UTF-16."""
    byte_tokenizer = Tokenizer({i: bytes([i]) for i in range(256)}, [], ["<|endoftext|>"])
    byte_tokenizer.save(tmp_path / "tok")
    ids = byte_tokenizer.encode("Once upon a time there was a cat. " * 9)
    path, val = token_file(tmp_path / "a.bin", ids), token_file(tmp_path / "val.bin", ids[:40])
    out = import_tokens([path], [val], tmp_path / "tok", tmp_path / "out")
    assert open_prepared(out).train.tokens.tolist() == ids


@pytest.mark.parametrize("dtype", ["<u2", "<u4"])
def test_a_copy_of_what_is_trained_on_is_not_validated_on(dtype, data, tmp_path):
    ids = np.array(open_prepared(data).train.tokens[:1000])
    other = token_file(tmp_path / "other.bin", [1, 2])
    train_file = token_file(tmp_path / "train.bin", ids)
    header = [20240801, 7, len(ids)] if dtype == "<u4" else [20240520, 1, len(ids)]
    val = token_file(tmp_path / "val.bin", ids, header=header, dtype=dtype)
    with pytest.raises(ValueError, match=r"train\.bin and --val \S+val\.bin have the same tokens"):
        import_tokens([other, train_file], [val], data / "tokenizer", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    ids[-1] -= 1
    val = token_file(tmp_path / "val.bin", ids, header=header, dtype=dtype)
    import_tokens([other, train_file], [val], data / "tokenizer", tmp_path / "out")


def test_a_copy_within_a_split_is_told(data, tmp_path):
    ids = np.array(open_prepared(data).train.tokens[:1000])
    names = ("one", "two", "three", "four")
    one, two, three, four = (
        token_file(tmp_path / f"{name}.bin", np.roll(ids, 7 * i)) for i, name in enumerate(names)
    )
    header = [20240801, 7, len(ids)]
    copy = token_file(tmp_path / "copy.bin", np.roll(ids, 7), header=header, dtype="<u4")
    tokenizer, out = data / "tokenizer", tmp_path / "out"
    named = r"--{0} \S+two\.bin and --{0} \S+copy\.bin have the same tokens: give each file once$"
    for split, given in (
        ("train", ([one, two, three, copy], [four])),
        ("val", ([one], [two, copy])),
    ):
        with pytest.raises(ValueError, match=named.format(split)):
            import_tokens(*given, tokenizer, out, dtype=None)
    assert not out.exists()
    import_tokens([one, two], [three, four], tokenizer, out)


@pytest.mark.parametrize("link", [os.link, os.symlink, None])
def test_one_file_is_not_imported_twice(link, data, tmp_path):
    """A validation on what was trained on would look too good."""
    good, other = token_file(tmp_path / "good.bin", [1, 2, 3]), tmp_path / "other.bin"
    val = token_file(tmp_path / "val.bin", [1, 2])
    if link is None:
        other = tmp_path / "x" / ".." / "good.bin"
        (tmp_path / "x").mkdir()
    else:
        link(good, other)
    for train_files, val_files in (([good], [other]), ([good, other], [val])):
        with pytest.raises(ValueError, match=r"good\.bin and --.* are the same file"):
            import_tokens(train_files, val_files, data / "tokenizer", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", ["cut off", "written again"])
@pytest.mark.parametrize("when", [1, 2])
def test_token_files_that_change_while_they_are_read_are_refused(
    change, when, data, tmp_path, monkeypatch
):
    good, val = token_file(tmp_path / "good.bin", [1, 2] * 9), token_file(tmp_path / "v.bin", [1])
    calls, read = [], foreign_tokens.read_ids

    def change_first(file, kind, vocab_size, path, **given):
        calls.append(path)
        if calls.count(good) == when and path == good:
            os.truncate(good, 4) if change == "cut off" else os.utime(good, (5, 5))
        return read(file, kind, vocab_size, path, **given)

    monkeypatch.setattr(foreign_tokens, "read_ids", change_first)
    with pytest.raises(ValueError, match=r"good\.bin must stay as it is while it is read"):
        import_tokens([good], [val], data / "tokenizer", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.bin", "v.bin"]


def encoded(folder: Path, text: str, name: str, tokenizer: Tokenizer) -> Path:
    (folder / "text.txt").write_text(text)
    tokenizer.encode_file(folder / "text.txt", folder / name)
    return folder / name


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("fault", ["tokenizer", "content", "count", "dtype"])
@pytest.mark.parametrize("of", ["FILE.bin.json", "meta.json", "shards"])
def test_tokens_that_are_described_are_not_read_otherwise(of, fault, link, data, tmp_path):
    """The description beside a token file of fastlm decides, whatever else would fit."""
    tokenizer = Tokenizer.load(data / "tokenizer")
    if of == "FILE.bin.json":
        path, facts_file = encoded(tmp_path, "Once upon a time", "a.bin", tokenizer), "a.bin.json"
    else:
        folder, facts_file = tmp_path / "data", "meta.json"
        shutil.copytree(data, folder)
        path = folder / "train.bin"
        if of == "shards":
            path = path.rename(folder / "train-00000.bin")
            meta = json.loads((folder / "meta.json").read_text())
            train_split = meta["splits"]["train"]
            train_split["shards"] = [{**train_split, "file": path.name}]
            (folder / "meta.json").write_text(json.dumps(meta))
    given = path
    if link:
        given = tmp_path / "link.bin"
        given.symlink_to(path)
    val = encoded(tmp_path, "One day", "val.bin", tokenizer)
    other, dtype = tokenizer, None
    if fault == "tokenizer":
        other = Tokenizer(tokenizer.vocab, tokenizer.merges[::-1], list(tokenizer.special_tokens))
        val = token_file(tmp_path / "bare.bin", [1, 2])
        named = rf"was encoded with tokenizer \w+, says {facts_file}, and this one is \w+: give"
    elif fault == "content":
        raw = path.read_bytes()
        path.write_bytes(raw[2:4] + raw[:2] + raw[4:])
        named = f"was changed since it was made: its hash is not the one in {facts_file}"
    elif fault == "count":
        path.write_bytes(path.read_bytes()[:-2])
        named = f"bytes, {facts_file} says"
    else:
        dtype, named = "uint32", f"has tokens of uint16, says {facts_file}: leave --dtype uint32"
    other.save(tmp_path / "tok")
    with pytest.raises(ValueError, match=named):
        import_tokens([given], [val], tmp_path / "tok", tmp_path / "out", dtype=dtype)
    assert not (tmp_path / "out").exists()


def test_a_description_of_something_else_is_passed_over(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tok")
    good, val = token_file(tmp_path / "a.bin", [1, 2, 3]), token_file(tmp_path / "val.bin", [1, 2])
    for odd in ("[]", "{", '{"splits": [1]}', '{"splits": {"x": {}}}', '{"dtype": "uint32"}'):
        for name in ("meta.json", "a.bin.json"):
            (tmp_path / name).write_text(odd)
        out = import_tokens([good], [val], tmp_path / "tok", tmp_path / "out")
        assert open_prepared(out).train.tokens.tolist() == [1, 2, 3]
        shutil.rmtree(out)


def test_a_flag_without_files_is_told(data, tmp_path):
    good = token_file(tmp_path / "good.bin", [1])
    with pytest.raises(ValueError, match=r"^--train: expected at least one token file, got none$"):
        import_tokens([], [good], data / "tokenizer", tmp_path / "out")


def test_split_files_without_tokens_are_named_by_their_paths(data, tmp_path):
    none = token_file(tmp_path / "zero.bin", [], header=[20240520, 1, 0])
    good = token_file(tmp_path / "good.bin", [1])
    with pytest.raises(ValueError, match=r"--val: there are no tokens in \S+zero\.bin$"):
        import_tokens([good], [none], data / "tokenizer", tmp_path / "out")


@pytest.mark.parametrize("dtype", [None, "uint16", "uint32"])
@pytest.mark.parametrize("width", ["<u2", "<u4", "<i8"])
def test_the_dtype_of_files_without_a_header_is_found_or_asked_for(width, dtype, data, tmp_path):
    """The ids are those of the file, or the import is refused, or warns of the dtype given."""
    ids = np.asarray(open_prepared(data).train.tokens)[:1000]
    path = token_file(tmp_path / "a.bin", ids, dtype=width)
    vocab_size = open_prepared(data).vocab_size
    named = {"<u2": "uint16", "<u4": "uint32"}.get(width)
    if (dtype or "uint16") == named:
        assert np.array_equal(ids_of(open_foreign(path, vocab_size, dtype)), ids)
        return
    message = r"a\.bin: (every second (token|number)|token \d+ at position)"
    if dtype is None or (width, dtype) == ("<u2", "uint32"):
        with pytest.raises(ValueError, match=message) as raised:
            open_foreign(path, vocab_size, dtype)
        assert dtype or "give --dtype uint" in str(raised.value)
    else:
        with pytest.warns(UserWarning, match=message):
            open_foreign(path, vocab_size, dtype)


def test_a_large_vocabulary_has_ids_of_four_bytes(tmp_path):
    ids = np.random.default_rng(0).integers(0, 100_000, 1000)
    path = token_file(tmp_path / "a.bin", ids, dtype="<u4")
    assert np.array_equal(ids_of(open_foreign(path, 100_000, None)), ids)
    small = token_file(tmp_path / "b.bin", ids % (1 << 16))
    with pytest.raises(ValueError, match=r"b\.bin: ids of a vocabulary of 100,000 need 4 bytes"):
        open_foreign(small, 100_000, None)
    assert np.array_equal(ids_of(open_foreign(small, 100_000, "uint16")), ids % (1 << 16))


@pytest.mark.parametrize("ids", [[5], [5, 0] * 40, [0] * 64, [3, 1, 5, 0] * 9, [500, 0]])
def test_ids_that_fit_both_dtypes_are_asked_for(ids, tmp_path):
    path = token_file(tmp_path / "a.bin", ids)
    if len(ids) % 2 == 0:
        with pytest.raises(ValueError, match=r"a\.bin: .* of 2 bytes and of 4 bytes alike: give"):
            open_foreign(path, 100_000, None)
    wide = token_file(tmp_path / "b.bin", [70_000, *ids, *ids, 99], dtype="<u4")
    assert ids_of(open_foreign(wide, 100_000, "uint32")).tolist() == [70_000, *ids, *ids, 99]


def test_an_import_that_is_broken_off_leaves_nothing(data, tokenizer, tmp_path, monkeypatch):
    def full(path, raw, **_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    good, val = token_file(tmp_path / "good.bin", [1, 2]), token_file(tmp_path / "val.bin", [1])
    with monkeypatch.context() as patched:
        patched.setattr(disk, "write_new", full)
        patched.setattr(disk, "write_file", full)
        with pytest.raises(OSError, match="No space left on device"):
            import_tokens([good], [val], data / "tokenizer", tmp_path / "out")
        with pytest.raises(OSError, match="No space left on device"):
            main(["tokenizer", str(data / "tokenizer"), "--out", str(tmp_path / "out")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.bin", "val.bin"]
