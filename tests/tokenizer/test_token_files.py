"""Token files are whole or absent, resume to the same ids, and are refused if they do not match."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastlm.files import disk, notes, resumed
from fastlm.files.tokens import open_single
from fastlm.tokenizer import Tokenizer, text_blocks, token_files, train_bpe_from_documents
from fastlm.tokenizer.bpe import blocks

END = "<|endoftext|>"
TEXT = f"the cat sat on the mat.{END}\nOne more: 中文 😀 the the end  \n " * 100
BAD = TEXT.encode() + b" b\xffd " + TEXT.encode()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    vocab, merges = train_bpe_from_documents([TEXT], 280, [END])
    return Tokenizer(vocab, merges, [END])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    for module in (blocks, text_blocks):
        monkeypatch.setattr(module, "BLOCK_BYTES", 300)
    monkeypatch.setattr(notes, "NOTE_BYTES", 1000)


@pytest.fixture
def text(tmp_path) -> Path:
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode())
    return path


class Stop(Exception):
    """An exception that ends a run in the middle."""


def stop_after(n_bytes: int, error: type[BaseException] = Stop):
    def on_progress(what: str, n: int) -> None:
        if n >= n_bytes:
            raise error

    return on_progress


def files_beside(path: Path) -> set[str]:
    return {p.name for p in path.parent.iterdir()} - {"text.txt"}


def read_ids(path: Path, tokenizer: Tokenizer) -> list[int]:
    opened = open_single(path, tokenizer.hash)
    opened.verify()
    ids: list[int] = opened.tokens.tolist()
    return ids


class TestEncodeFile:
    @pytest.mark.parametrize("n_threads", [1, 3])
    def test_file_holds_the_ids_of_the_text(self, tokenizer, text, n_threads):
        out = text.with_name("ids.bin")
        n_bytes = []
        count = tokenizer.encode_file(
            str(text), str(out), n_threads=n_threads, on_progress=lambda *told: n_bytes.append(told)
        )
        expected = tokenizer.encode(TEXT)
        assert count == len(expected)
        assert json.loads((text.parent / "ids.bin.json").read_text()) == {
            "dtype": "uint16",
            "count": count,
            "sha256": hashlib.sha256(np.array(expected, "<u2").tobytes()).hexdigest(),
            "vocab_size": tokenizer.vocab_size,
            "tokenizer_hash": tokenizer.hash,
        }
        assert read_ids(out, tokenizer) == expected
        assert files_beside(text) == {"ids.bin", "ids.bin.json"}
        assert (n_bytes[0], n_bytes[-1]) == (("bytes", 0), ("bytes", len(TEXT.encode())))
        assert n_bytes == sorted(n_bytes)

    def test_large_vocabularies_take_four_bytes(self, text):
        tokens = [bytes([b]) for b in range(256)]
        tokens += [bytes([a, b]) for a in range(256) for b in range(256)][: 65_537 - 256]
        tokenizer = Tokenizer(dict(enumerate(tokens)), [])
        out = text.with_name("ids.bin")
        assert tokenizer.encode_file(text, out) == len(TEXT.encode())
        np.testing.assert_array_equal(np.fromfile(out, "<u4"), list(TEXT.encode()))

    @pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
    @pytest.mark.parametrize("n_bytes", [300, 1500, 5000])
    def test_resumed_run_equals_an_uninterrupted_one(self, tokenizer, text, n_bytes, error):
        out = text.with_name("ids.bin")
        with pytest.raises(error):
            tokenizer.encode_file(text, out, on_progress=stop_after(n_bytes, error))
        assert files_beside(text) == {"ids.bin.part", "ids.bin.part.json"}
        note = json.loads(out.with_name("ids.bin.part.json").read_text())
        assert note["bytes_read"] >= n_bytes
        assert str(text.parent) not in json.dumps(note)
        with pytest.raises(error):
            tokenizer.encode_file(text, out, on_progress=stop_after(n_bytes + 700, error))
        told = []
        count = tokenizer.encode_file(text, out, on_progress=lambda _, n: told.append(n))
        assert told[0] >= n_bytes + 700
        assert read_ids(out, tokenizer) == tokenizer.encode(TEXT)
        assert count == len(tokenizer.encode(TEXT))
        assert files_beside(text) == {"ids.bin", "ids.bin.json"}

    def test_killed_process_is_resumed_from_its_last_note(self, tokenizer, text):
        out = text.with_name("ids.bin")
        tokenizer.save(text.with_name("t"))
        code = (
            "import os, sys\nfrom pathlib import Path\n"
            "from fastlm.files import notes\n"
            "from fastlm.tokenizer import Tokenizer, text_blocks\n"
            "from fastlm.tokenizer.bpe import blocks\n"
            "blocks.BLOCK_BYTES = text_blocks.BLOCK_BYTES = 300\nnotes.NOTE_BYTES = 1000\n"
            "die = lambda what, n: os._exit(9) if n > 3500 else None\n"
            "Tokenizer.load('t').encode_file('text.txt', 'ids.bin', on_progress=die)"
        )
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=text.parent,
            env=os.environ | {"PYTHONPATH": str(root)},
        )
        assert done.returncode == 9
        note = json.loads(out.with_name("ids.bin.part.json").read_text())
        told = []
        tokenizer.encode_file(text, out, on_progress=lambda _, n: told.append(n))
        assert told[0] == note["bytes_read"] >= 1000
        assert read_ids(out, tokenizer) == tokenizer.encode(TEXT)

    def test_ids_past_the_note_are_cut_off(self, tokenizer, text):
        out = text.with_name("ids.bin")
        with pytest.raises(Stop):
            tokenizer.encode_file(text, out, on_progress=stop_after(1500))
        with open(out.with_name("ids.bin.part"), "ab") as part:
            part.write(b"half a block")
        tokenizer.encode_file(text, out)
        assert read_ids(out, tokenizer) == tokenizer.encode(TEXT)

    def test_resume_can_be_left(self, tokenizer, text):
        out = text.with_name("ids.bin")
        with pytest.raises(Stop):
            tokenizer.encode_file(text, out, on_progress=stop_after(1500))
        told = []
        tokenizer.encode_file(text, out, resume=False, on_progress=lambda _, n: told.append(n))
        assert told[0] == 0
        assert files_beside(text) == {"ids.bin", "ids.bin.json"}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ("text", "is of another text, or the text has changed"),
            ("text in place", "is of another text, or the text has changed"),
            ("tokenizer", "is of another tokenizer"),
            ("note", "has no note of its progress"),
            ("part", "does not hold the ids that its note says"),
            ("ids", "does not hold the ids that its note says"),
        ],
    )
    def test_what_does_not_match_starts_afresh(self, tokenizer, text, change, message):
        out = text.with_name("ids.bin")
        part, note = out.with_name("ids.bin.part"), out.with_name("ids.bin.part.json")
        with pytest.raises(Stop):
            tokenizer.encode_file(text, out, on_progress=stop_after(1500))
        if change == "text":
            text.write_bytes(TEXT.encode().replace(b"cat", b"dog"))
        elif change == "text in place":  # and the time set back, as cp -p does
            seen = text.stat()
            text.write_bytes(text.read_bytes().swapcase())
            os.utime(text, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        elif change == "tokenizer":
            tokenizer = Tokenizer(tokenizer.vocab, tokenizer.merges[:-1], [END])
        elif change == "note":  # killed before the first one
            begun = json.loads(note.read_text())
            note.write_text(json.dumps({key: begun[key] for key in token_files._NOTED}))
        elif change == "part":
            part.write_bytes(b"12")
        elif change == "ids":
            part.write_bytes(b"x" + part.read_bytes()[1:])
        with pytest.warns(UserWarning, match=rf"ids\.bin\.part {message}: encoding starts afresh"):
            tokenizer.encode_file(text, out)
        expected = tokenizer.encode(text.read_bytes().decode())
        assert read_ids(out, tokenizer) == expected
        assert files_beside(text) == {"ids.bin", "ids.bin.json"}

    @pytest.mark.parametrize("resume", [True, False])
    @pytest.mark.parametrize("ending", [".part", ".part.json", ".json", ""])
    def test_files_of_others_beside_the_output_stay(self, tokenizer, text, ending, resume):
        """They are refused before any work, and left as they are."""
        mine = text.with_name(f"ids.bin{ending}")
        for content in (b"mine", b""):
            mine.write_bytes(content)
            with pytest.raises(FileExistsError, match=rf"ids\.bin{ending} is there"):
                tokenizer.encode_file(text, text.with_name("ids.bin"), resume=resume)
            assert files_beside(text) == {mine.name}
            assert mine.read_bytes() == content

    def test_what_is_there_is_replaced_if_that_is_asked_for(self, tokenizer, text):
        out = text.with_name("ids.bin")
        for path in (out, out.with_name("ids.bin.json")):
            path.write_bytes(b"old")
        tokenizer.encode_file(text, out, replace=True)
        assert read_ids(out, tokenizer) == tokenizer.encode(TEXT)
        assert files_beside(text) == {"ids.bin", "ids.bin.json"}

    def test_facts_that_an_earlier_version_wrote_before_the_name_are_in_no_ones_way(
        self, tokenizer, text
    ):
        out = text.with_name("ids.bin")
        with pytest.raises(Stop):
            tokenizer.encode_file(text, out, on_progress=stop_after(1500))
        note = out.with_name("ids.bin.part.json")
        note.write_text(json.dumps({**json.loads(note.read_text()), "has_facts": True}))
        early = {"tokenizer_hash": tokenizer.hash}
        out.with_name("ids.bin.json").write_text(json.dumps(early))
        tokenizer.encode_file(text, out)
        assert read_ids(out, tokenizer) == tokenizer.encode(TEXT)
        assert files_beside(text) == {"ids.bin", "ids.bin.json"}

    @pytest.mark.parametrize("has_old", [True, False])
    @pytest.mark.parametrize("end", ["before the name", "with both names", "before the facts"])
    def test_ids_and_facts_are_of_one_pair_whenever_the_process_ends(
        self, tokenizer, text, end, has_old, monkeypatch
    ):
        """The old pair is read before the rename and the new one after it."""
        if has_old and end == "with both names":
            return  # a file that is replaced is renamed at once
        out, facts, link = text.with_name("ids.bin"), text.with_name("ids.bin.json"), os.link
        if has_old:
            text.write_bytes(b"the mat")
            tokenizer.encode_file(text, out)
            text.write_bytes(TEXT.encode())

        def stop(*args, **kwargs):
            if end == "with both names":
                link(*args)
            raise Stop

        with monkeypatch.context() as patch:
            if end == "before the name":
                patch.setattr(resumed, "name_file", stop)
            elif end == "with both names":
                patch.setattr(os, "link", stop)
            else:
                patch.setattr(disk, "write_file", stop)
            with pytest.raises(Stop):
                tokenizer.encode_file(text, out, replace=has_old)
        told = []
        if end != "before the name":
            assert read_ids(out, tokenizer) == tokenizer.encode(TEXT)
        elif has_old:
            assert read_ids(out, tokenizer) == tokenizer.encode("the mat")
        else:
            assert not out.exists()
            assert not facts.exists()
        count = tokenizer.encode_file(
            text, out, replace=has_old, on_progress=lambda _, n: told.append(n)
        )
        assert count == len(tokenizer.encode(TEXT))
        assert not told or end == "before the name"  # nothing was encoded again
        assert files_beside(text) == {"ids.bin", "ids.bin.json"}
        assert read_ids(out, tokenizer) == tokenizer.encode(TEXT)

    @pytest.mark.parametrize("has_old", [True, False])
    def test_a_refused_name_leaves_the_facts_of_the_file_that_came(self, tokenizer, text, has_old):
        out, facts = text.with_name("ids.bin"), text.with_name("ids.bin.json")
        if has_old:
            tokenizer.encode_file(text, out)
            before = facts.read_bytes()
            text.write_bytes(TEXT.encode() + b" more")

        def appear(what: str, n: int) -> None:
            if n > 2000:
                out.write_bytes(b"mine")

        with pytest.raises(FileExistsError, match=r"ids\.bin "):
            tokenizer.encode_file(text, out, replace=has_old, on_progress=appear)
        assert out.read_bytes() == b"mine"
        if has_old:
            assert facts.read_bytes() == before
        else:
            assert not facts.exists()

    def test_invalid_utf8_met_late_is_replaced_from_there(self, tokenizer, text):
        text.write_bytes(BAD)
        out = text.with_name("ids.bin")
        position = BAD.index(0xFF)
        for _ in range(2):  # the second time from the note: the place is the same
            with pytest.raises(ValueError, match=rf"text\.txt must be UTF-8: .* byte {position};"):
                tokenizer.encode_file(text, out)
        told = []
        tokenizer.encode_file(text, out, errors="replace", on_progress=lambda _, n: told.append(n))
        assert 0 < told[0] <= position
        expected = tokenizer.encode(BAD.decode("utf-8", "replace"))
        assert read_ids(out, tokenizer) == expected

    def test_invalid_utf8_in_a_line_of_json_is_replaced_from_there(self, tokenizer, tmp_path):
        lines, out = tmp_path / "a.jsonl", tmp_path / "ids.bin"
        lines.write_bytes(b'{"text": "the cat sat"}\n' * 999 + b'{"text": "a \xff cat"}\n')
        with pytest.raises(ValueError, match=r"a\.jsonl: expected UTF-8, got an invalid byte"):
            tokenizer.encode_file(lines, out)
        told = []
        tokenizer.encode_file(lines, out, errors="replace", on_progress=lambda _, n: told.append(n))
        assert told[0] > 0
        assert read_ids(out, tokenizer) == tokenizer.encode(
            f"the cat sat{END}" * 999 + f"a \ufffd cat{END}"
        )

    @pytest.mark.parametrize("rest", ['{"text": 5}', "{", f'{{"text": "{END}"}}'])
    def test_a_text_that_cannot_be_used_leaves_nothing(self, tokenizer, tmp_path, rest):
        lines = tmp_path / "a.jsonl"
        lines.write_text('{"text": "the cat sat"}\n' * 99 + rest)
        with pytest.raises(ValueError, match=r"a\.jsonl, line 100: "):
            tokenizer.encode_file(lines, tmp_path / "ids.bin")
        assert files_beside(lines) == {"a.jsonl"}

    def test_replaced_text_is_not_gone_on_with_strictly(self, tokenizer, text):
        out = text.with_name("ids.bin")
        with pytest.raises(Stop):
            tokenizer.encode_file(text, out, errors="replace", on_progress=stop_after(1500))
        with pytest.warns(UserWarning, match=r"was read with errors=replace"):
            tokenizer.encode_file(text, out)

    def test_failure_before_the_first_ids_leaves_nothing(self, tokenizer, text):
        text.write_bytes(b"a\xff")
        with pytest.raises(ValueError, match=r"at byte 1;"):
            tokenizer.encode_file(text, text.with_name("ids.bin"))
        assert files_beside(text) == set()

    def test_a_pointer_of_git_lfs_is_no_text(self, tokenizer, text):
        text.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n")
        with pytest.raises(ValueError, match=r"text\.txt is the pointer of Git LFS"):
            tokenizer.encode_file(text, text.with_name("ids.bin"))
        assert files_beside(text) == set()

    def test_text_that_changes_is_refused(self, tokenizer, text):
        out = text.with_name("ids.bin")

        def append(what: str, n: int) -> None:
            if n == 0:
                with open(text, "ab") as file:
                    file.write(b" more")

        with pytest.raises(ValueError, match=r"text\.txt must stay as it is .* has changed"):
            tokenizer.encode_file(text, out, on_progress=append)
        assert files_beside(text) == set()
        tokenizer.encode_file(text, out)
        assert read_ids(out, tokenizer) == tokenizer.encode(TEXT + " more")

    def test_second_writer_is_refused_and_harms_nothing(self, tokenizer, text):
        out = text.with_name("ids.bin")
        met = []

        def write_too(what: str, n: int) -> None:
            if n > 2000 and not met:
                with pytest.raises(
                    BlockingIOError, match=r"is being made by process \d+"
                ) as caught:
                    tokenizer.encode_file(text, out)
                met.append(caught)

        tokenizer.encode_file(text, out, on_progress=write_too)
        assert met
        assert read_ids(out, tokenizer) == tokenizer.encode(TEXT)

    def test_older_file_is_there_until_the_new_one_is_whole(self, tokenizer, text):
        out = text.with_name("ids.bin")
        out.write_bytes(b"old")
        with pytest.raises(Stop):
            tokenizer.encode_file(text, out, replace=True, on_progress=stop_after(1500))
        assert out.read_bytes() == b"old"

    def test_empty_text_gives_an_empty_file(self, tokenizer, text):
        text.write_bytes(b"")
        out = text.with_name("ids.bin")
        assert tokenizer.encode_file(text, out) == 0
        assert read_ids(out, tokenizer) == []

    @pytest.mark.parametrize(
        ("path", "out", "options", "error", "message"),
        [
            ("no.txt", "x.bin", {}, FileNotFoundError, r"expected a file at .*no\.txt"),
            ("text.txt", "no/x.bin", {}, FileNotFoundError, r"folder .*no to write in: make it"),
            ("text.txt", "x.bin", {"errors": "ignore"}, ValueError, r"got 'ignore'"),
            ("text.txt", "x.bin", {"n_threads": 0}, ValueError, r"n_threads must be at least 1"),
        ],
    )
    def test_bad_input_is_named(self, tokenizer, text, path, out, options, error, message):
        with pytest.raises(error, match=message):
            tokenizer.encode_file(text.with_name(path), text.parent / out, **options)
        assert files_beside(text) == set()


ROWS = [f"the cat {i} sat\n on the mat 中文 😀" * 3 for i in range(40)]
ROWS[3], ROWS[17] = "", "  \n"


class TestJsonLines:
    """The ids are those of the texts of the lines, with <|endoftext|> after each."""

    EXPECTED = "".join(row + END for row in ROWS)

    @pytest.fixture
    def lines(self, tmp_path) -> Path:
        rows = [json.dumps({"id": i, "body": row}) for i, row in enumerate(ROWS)]
        (tmp_path / "a.jsonl").write_text("\ufeff" + "\n\n".join(rows) + "\n \n")
        return tmp_path / "a.jsonl"

    @pytest.mark.parametrize("n_threads", [1, 3])
    def test_texts_are_encoded_one_for_each_line(self, tokenizer, lines, n_threads):
        out = lines.with_name("ids.bin")
        told = []
        count = tokenizer.encode_file(
            lines, out, text_field="body", n_threads=n_threads,
            on_progress=lambda _, n: told.append(n),
        )  # fmt: skip
        ids = read_ids(out, tokenizer)
        assert count == len(ids)
        assert ids == tokenizer.encode(self.EXPECTED)
        assert tokenizer.decode(ids).split(END)[:-1] == ROWS  # blank texts too: the n-th is a line
        assert (told[0], told[-1]) == (0, lines.stat().st_size)

    @pytest.mark.parametrize("n_bytes", [300, 1500, 4000])
    def test_it_is_resumed_at_a_line(self, tokenizer, lines, n_bytes):
        out = lines.with_name("ids.bin")
        with pytest.raises(Stop):
            tokenizer.encode_file(lines, out, text_field="body", on_progress=stop_after(n_bytes))
        note = json.loads(out.with_name("ids.bin.part.json").read_text())
        raw = lines.read_bytes()
        assert raw[note["bytes_read"] - 1 : note["bytes_read"]] == b"\n"
        told = []
        tokenizer.encode_file(
            lines, out, text_field="body", on_progress=lambda _, n: told.append(n)
        )
        assert told[0] >= n_bytes
        assert read_ids(out, tokenizer) == tokenizer.encode(self.EXPECTED)

    def test_another_field_starts_afresh_and_errors_name_the_line(self, tokenizer, lines):
        out = lines.with_name("ids.bin")
        with pytest.raises(Stop):
            tokenizer.encode_file(lines, out, text_field="body", on_progress=stop_after(1500))
        with (
            pytest.warns(UserWarning, match="was read as another kind of text: encoding starts"),
            pytest.raises(
                ValueError, match=r"a\.jsonl, line 1: .* a string in the field 'id', got"
            ),
        ):
            tokenizer.encode_file(lines, out, text_field="id")
        lines.write_bytes(lines.read_bytes() + b'{"body": 5}\n')
        n_lines = 2 * len(ROWS) + 1
        for _ in range(2):  # the second time from the note
            with pytest.raises(ValueError, match=rf"a\.jsonl, line {n_lines}: expected a string"):
                tokenizer.encode_file(lines, out, text_field="body")

    def test_a_special_token_that_overlaps_the_end_takes_nothing_of_it(self, tokenizer, tmp_path):
        other = Tokenizer(tokenizer.vocab, tokenizer.merges, [END, f"mat.{END}"])
        (tmp_path / "a.jsonl").write_text('{"text": "on the mat."}\n{"text": ""}\n' * 30)
        other.encode_file(tmp_path / "a.jsonl", tmp_path / "ids.bin")
        ids = read_ids(tmp_path / "ids.bin", other)
        end = other.encode(END)
        assert ids == [*other.encode("on the mat."), *end, *end] * 30

    def test_an_end_of_text_in_a_text_is_refused_unless_allowed(self, tokenizer, tmp_path):
        (tmp_path / "a.jsonl").write_text(json.dumps({"text": f"one{END}two"}))
        out = tmp_path / "ids.bin"
        with pytest.raises(
            ValueError, match=r"a\.jsonl, line 1: the field 'text' has .*--allow-en"
        ):
            tokenizer.encode_file(tmp_path / "a.jsonl", out)
        tokenizer.encode_file(tmp_path / "a.jsonl", out, allow_end_of_text=True)
        assert read_ids(out, tokenizer) == tokenizer.encode(f"one{END}two{END}")

    def test_a_tokenizer_without_the_token_is_refused(self, tmp_path):
        plain = Tokenizer({i: bytes([i]) for i in range(256)}, [])
        (tmp_path / "a.jsonl").write_text('{"text": "one"}')
        for encode in (
            lambda: plain.encode_file(tmp_path / "a.jsonl", tmp_path / "ids.bin"),
            lambda: list(plain.encode_file_blocks(tmp_path / "a.jsonl")),
        ):
            with pytest.raises(ValueError, match=r"each text of a \.jsonl file ends with <\|endof"):
                encode()
        assert files_beside(tmp_path / "a.jsonl") == {"a.jsonl"}

    def test_blocks_of_a_file_are_those_of_its_texts(self, tokenizer, tmp_path):
        (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": r}) + "\n" for r in ROWS))
        arrays = list(tokenizer.encode_file_blocks(tmp_path / "a.jsonl"))
        assert len(arrays) > 3
        assert np.concatenate(arrays).tolist() == tokenizer.encode(self.EXPECTED)
        (tmp_path / "a.jsonl").rename(tmp_path / "a.jsonl.txt")
        raw = (tmp_path / "a.jsonl.txt").read_text()
        arrays = list(tokenizer.encode_file_blocks(tmp_path / "a.jsonl.txt"))
        assert np.concatenate(arrays).tolist() == tokenizer.encode(raw)


@pytest.mark.parametrize("name", ["text.txt", "link", "text.txt.part", "text.txt.json"])
def test_the_text_is_never_written(tokenizer, tmp_path, name):
    """Neither as the output, by a link too, nor as one of the files that lie beside the output."""
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "link").symlink_to("text.txt")
    text = tmp_path / "text.txt"
    if name.startswith("text.txt."):  # the output is then text.txt
        text = text.rename(tmp_path / name)
    out = tmp_path / name.removesuffix(".part").removesuffix(".json")
    with pytest.raises(ValueError, match="is read and would be written: give another file"):
        tokenizer.encode_file(text, out)
    assert text.read_text() == TEXT
