"""The commands of python -m fastlm.tokenizer as a user types them: output, exit codes, Ctrl-C."""

import functools
import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import check_refused

from fastlm.cli.meter import LINE_SECONDS, Meter, describe
from fastlm.tokenizer import Tokenizer, text_blocks, train_bpe_from_documents, training
from fastlm.tokenizer.__main__ import main, parse_bytes

ROOT = Path(__file__).resolve().parents[2]
END = "<|endoftext|>"
TEXT = (
    f"the cat sat on the mat, didn't it?\n\n  The end.{END}\nOne more: 中文 😀 the the{END}the end"
    * 3
)
SPECIAL = [END, "<|end|>", f"{END}{END}", "<|a b|>"]


def command(*words: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fastlm.tokenizer", *words],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    vocab, merges = train_bpe_from_documents([TEXT], 256 + 40 + len(SPECIAL), SPECIAL)
    return Tokenizer(vocab, merges, SPECIAL)


def test_what_is_kept_of_a_text_that_is_not_utf8_is_told(tokenizer, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 300)
    text, out = tmp_path / "t.txt", tmp_path / "b.bin"
    text.write_bytes(TEXT.encode() * 9 + b"\xff")
    tokenizer.save(tmp_path / "tok")
    encode = ["encode", str(text), "--tokenizer", str(tmp_path / "tok"), "--out", str(out)]
    with pytest.raises(ValueError, match="must be UTF-8"):
        main(encode)
    said = capsys.readouterr().err.splitlines()
    assert said == [f"note: {out}.part is kept: --errors replace goes on from there"]
    (tmp_path / "tok/special_tokens.json").rename(tmp_path / "special_tokens.json")
    (tmp_path / "tok/tokenizer.json").rename(tmp_path / "tokenizer.json")
    (tmp_path / "tok/tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer\.json must be"):
        main(encode)
    assert capsys.readouterr().err == ""  # another fault has nothing to do with what is kept
    for name in ("special_tokens.json", "tokenizer.json"):
        (tmp_path / name).rename(tmp_path / "tok" / name)
    main([*encode, "--errors", "replace"])
    assert "of them encoded before" in capsys.readouterr().out


def test_only_files_of_a_tokenizer_that_are_read_are_not_written(tokenizer, tmp_path):
    text, folder = tmp_path / "t.txt", tmp_path / "tok"
    text.write_text(TEXT, encoding="utf-8")
    tokenizer.save(folder)
    encode = ["encode", str(text), "--tokenizer", str(folder), "--out"]
    for more in ([], ["--overwrite"]):  # what the first call wrote is no file of the tokenizer
        main([*encode, str(folder / "b.bin"), *more])
    report = ["report", str(text), "--tokenizer", str(folder), "--seconds", "0", "--json"]
    for more in ([], ["--overwrite"]):
        main([*report, str(folder / "report.json"), *more])
    for name in ("vocab.json", "merges.txt", "special_tokens.json", "tables.npz"):
        before = (folder / name).read_bytes()
        for words in (encode, report):
            with pytest.raises(ValueError, match=f"{name} is read and would be written"):
                main([*words, str(folder / name), "--overwrite"])
        assert (folder / name).read_bytes() == before


class TestCommands:
    def test_train_encode_decode_report(self, tmp_path, capfdbinary):
        text, folder, ids = tmp_path / "text.txt", tmp_path / "tokenizer", tmp_path / "ids.bin"
        text.write_bytes(TEXT.encode())
        main(["train", str(text), "--vocab-size", "290", "--out", str(folder)])
        assert Tokenizer.load(folder).special_tokens == {END: 289}
        main(["encode", str(text), "--tokenizer", str(folder), "--out", str(ids)])
        capfdbinary.readouterr()
        main(["decode", str(ids), "--tokenizer", str(folder)])
        assert capfdbinary.readouterr().out == TEXT.encode()
        main(["report", str(text), "--tokenizer", str(folder), "--seconds", "0.05"])
        tables = capfdbinary.readouterr().out.decode().split("\n\n")
        compression, speed = (
            {row.split()[1]: row.split() for row in table.splitlines() if "text.txt" in row}
            for table in tables
            if table.startswith(("Compression", "Speed"))
        )
        n_bytes = len(TEXT.encode())
        assert compression["byte"][2:5] == ["256", f"{n_bytes:,}", "1.000"]
        assert compression["character"][2:4] == [f"{len(set(TEXT))}", f"{len(TEXT)}"]
        n_tokens = len(Tokenizer.load(folder).encode(TEXT))
        assert compression["tokenizer"][3:5] == [f"{n_tokens}", f"{n_bytes / n_tokens:.3f}"]
        for column in (2, 3, 5):
            assert float(speed["tokenizer"][column].replace(",", "")) > 0

    def test_a_tokenizer_is_replaced_only_if_that_is_asked_for(self, tmp_path, capfd):
        text, folder = tmp_path / "text.txt", tmp_path / "tokenizer"
        text.write_bytes(TEXT.encode())
        words = ["train", str(text), "--out", str(folder), "--vocab-size"]
        main([*words, "290"])
        (folder / "notes.md").write_text("mine")
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        for size in ("290", "280"):  # the same command, and another one
            again = functools.partial(main, [*words, size])
            check_refused(again, "give another --out, or --overwrite", capfd)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        main([*words, "280", "--overwrite"])
        assert Tokenizer.load(folder).vocab_size == 280
        assert (folder / "notes.md").read_text() == "mine"

    def test_where_a_tokenizer_goes_is_known_before_the_work(self, tmp_path, monkeypatch):
        """new/.. is the folder of new, which there is."""
        (tmp_path / "text.txt").write_bytes(TEXT.encode())
        monkeypatch.chdir(tmp_path)
        main(["train", "text.txt", "--vocab-size", "280", "--out", "new/.."])
        assert Tokenizer.load(tmp_path).vocab_size == 280
        with pytest.raises(FileExistsError, match=r"new/\.\. is there already"):
            main(["train", "text.txt", "--vocab-size", "280", "--out", "new/.."])

    @pytest.mark.parametrize("out", ["", ".", "loop", "tokenizer", "-", "/dev/null"])
    def test_what_is_no_name_of_a_token_file_is_refused(
        self, out, tokenizer, tmp_path, monkeypatch, capfd
    ):
        (tmp_path / "text.txt").write_bytes(TEXT.encode())
        tokenizer.save(tmp_path / "tokenizer")
        (tmp_path / "loop").symlink_to("loop")
        monkeypatch.chdir(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        words = ["encode", "text.txt", "--tokenizer", "tokenizer", "--overwrite", "--out", out]
        told = {
            "": "expected a path, got an empty word",
            "loop": "symbolic links: loop",
            "-": "standard output cannot be written to here",
        }
        check_refused(lambda: main(words), told.get(out, "expected the name of a file"), capfd)
        assert sorted(tmp_path.rglob("*")) == before

    def test_a_folder_in_which_a_tokenizer_is_made_is_locked(self, tmp_path, capfd, monkeypatch):
        """The second command is told so at once, and the first one's tokenizer is whole."""
        text, folder = tmp_path / "text.txt", tmp_path / "tokenizer"
        text.write_bytes(TEXT.encode())
        words = ["train", str(text), "--vocab-size", "280", "--out", str(folder)]
        met = []

        original = training.train_bpe

        def train_too(*arguments, **options):
            met.append(1)
            check_refused(lambda: main(words), "is being made by process", capfd)
            return original(*arguments, **options)

        monkeypatch.setattr(training, "train_bpe", train_too)
        main(words)
        assert met
        assert Tokenizer.load(folder).vocab_size == 280

    @pytest.mark.parametrize("flag", ["--json", "--md"])
    def test_a_report_on_standard_output_stands_there_alone(
        self, flag, tokenizer, tmp_path, capsys
    ):
        tokenizer.save(tmp_path / "t")
        (tmp_path / "text.txt").write_bytes(TEXT.encode())
        words = ["report", str(tmp_path / "text.txt"), "--tokenizer", str(tmp_path / "t")]
        main([*words, "--seconds", "0", flag, "-"])
        told = capsys.readouterr().out
        if flag == "--json":
            assert json.loads(told)["texts"][0]["name"] == "text.txt"
        else:
            assert told.startswith("**Tokenizers**")
            assert told.count("**Compression**") == 1

    @pytest.mark.parametrize("flag", ["--json", "--md"])
    def test_a_report_replaces_a_file_only_if_that_is_asked_for(
        self, flag, tokenizer, tmp_path, capfd
    ):
        tokenizer.save(tmp_path / "t")
        text, out = tmp_path / "text.txt", tmp_path / "out"
        text.write_bytes(TEXT.encode())
        out.write_text("mine")
        words = ["report", str(text), "--tokenizer", str(tmp_path / "t"), "--seconds", "0"]
        message = f"give another {flag}, or --overwrite"
        check_refused(lambda: main([*words, flag, str(out)]), message, capfd)
        assert out.read_text() == "mine"
        check_refused(lambda: main([*words, flag, str(text), "--overwrite"]), "is read and", capfd)
        main([*words, flag, str(out), "--overwrite"])
        assert "Compression" in out.read_text() or "pile_bytes" in out.read_text()

    def test_special_tokens_can_be_added(self, tmp_path):
        text, folder = tmp_path / "text.txt", tmp_path / "tokenizer"
        text.write_text(TEXT, encoding="utf-8")
        added = [
            argument for token in ("<|x|>", END, "<|y|>") for argument in ("--special-token", token)
        ]
        main(["train", str(text), "--vocab-size", "290", "--out", str(folder), *added])
        assert Tokenizer.load(folder).special_tokens == {END: 287, "<|x|>": 288, "<|y|>": 289}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["train", "nothing.txt", "--vocab-size", "300", "--out", "t"], "nothing.txt"),
            (["train", "bad.txt", "--vocab-size", "300", "--out", "t"], "at byte 1"),
            (["train", "bad.txt", "--vocab-size", "9", "--out", "t"], "at least 257"),
            (["encode", "bad.txt", "--tokenizer", "t", "--out", "x.bin"], "vocab.json"),
            (["encode", "bad.txt", "--tokenizer", "good", "--out", "x.bin"], "at byte 1"),
            (["encode", "bad.txt", "--tokenizer", "good", "--out", "no/x.bin"], "make it first"),
            (
                ["train", "bad.txt", "--vocab-size", "300", "--out", "t", "--max-token-bytes", "1"],
                "at least 2",
            ),
            (
                ["train", "bad.txt", "--vocab-size", "300", "--out", "t", "--sample-bytes", "2XB"],
                "such as 500MB",
            ),
            (
                ["train", "bad.txt", "--vocab-size", "300", "--out", "t", "--sample-bytes", "0"],
                "at least 1",
            ),
            (
                ["train", "*.text", "--vocab-size", "300", "--out", "t"],
                "*.text: expected a pattern",
            ),
            (["report", "*.text", "--tokenizer", "good"], "*.text: expected a pattern"),
            (["encode", "packed.txt.gz", "--tokenizer", "good", "--out", "x"], "unpack it, or use"),
            (
                ["train", "a.jsonl", "--vocab-size", "300", "--out", "t", "--sample-bytes", "1"],
                "stripes of plain text files",
            ),
            (
                ["train", "a.jsonl", "--vocab-size", "300", "--out", "t", "--text-field", "body"],
                "with a field 'body', got the fields text",
            ),
            (["encode", "bad.txt", "--tokenizer", "empty.txt", "--out", "x.bin"], "tokenizer.json"),
            (["decode", "x.bin", "--tokenizer", "good"], "x.bin"),
            (["report", "empty.txt", "--tokenizer", "good"], "empty.txt is empty"),
            (
                ["report", "bad.txt", "--tokenizer", "good", "--seconds", "inf"],
                "seconds must be a number of seconds: got inf",
            ),
        ],
    )
    def test_bad_input_is_one_line_and_writes_nothing(
        self, tokenizer, tmp_path, arguments, message, monkeypatch, capfd
    ):
        (tmp_path / "bad.txt").write_bytes(b"a\xff")
        (tmp_path / "empty.txt").write_bytes(b"")
        (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(b"text"))
        (tmp_path / "a.jsonl").write_text('{"text": "one"}')
        tokenizer.save(tmp_path / "good")
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.chdir(tmp_path)
        check_refused(lambda: main(arguments), message, capfd)
        assert sorted(tmp_path.rglob("*")) == before

    def test_bad_input_of_a_process_is_one_line_too(self, tmp_path):
        process = command("report", "none.txt", "--tokenizer", "good", cwd=tmp_path)
        _, errors = process.communicate()
        assert (process.returncode, errors.count("\n")) == (2, 1)
        assert errors.startswith("error: ")

    def test_help_needs_neither_torch_nor_numba(self):
        code = (
            "import sys\nfrom fastlm.tokenizer.__main__ import main\n"
            "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
            "assert not {'torch', 'numba'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

    def test_sample_and_longest_token_can_be_limited(self, tmp_path, capsys):
        text, folder = tmp_path / "text.txt", tmp_path / "tokenizer"
        text.write_text("the theme of the thesis\n" * 1000, encoding="utf-8")
        words = ["--vocab-size", "270", "--sample-bytes", "2kB", "--max-token-bytes", "3"]
        main(["train", str(text), "--out", str(folder), *words])
        assert max(map(len, (a + b for a, b in Tokenizer.load(folder).merges))) == 3
        assert "from a sample of 2,000 bytes of 24,000 bytes" in capsys.readouterr().out

    @pytest.mark.parametrize("kind", ["jsonl", "txt.gz", "folder", "pattern", "parquet"])
    def test_texts_of_all_kinds_give_the_tokenizer_of_plain_ones(self, kind, tmp_path, capsys):
        documents = [f"{document} {i}" for i in range(30) for document in TEXT.split(END)]
        (tmp_path / "in").mkdir()
        path = tmp_path / "in" / f"a.{kind}"
        if kind == "jsonl":
            path.write_text("\n".join(json.dumps({"body": text}) for text in documents))
        elif kind == "txt.gz":
            path.write_bytes(gzip.compress(END.join(documents).encode()))
        elif kind == "parquet":
            pyarrow = pytest.importorskip("pyarrow")
            parquet = pytest.importorskip("pyarrow.parquet")
            parquet.write_table(pyarrow.table({"body": documents}), path)
        else:
            for begin in (0, 10):
                part = documents[begin:10] if begin == 0 else documents[begin:]
                (tmp_path / "in" / f"{begin}.txt").write_text(END.join(part))
            path = tmp_path / "in" / ("*.txt" if kind == "pattern" else "")
        (tmp_path / "plain.txt").write_text(END.join(documents))
        for out, text in (("one", tmp_path / "plain.txt"), ("other", path)):
            words = ["--vocab-size", "290", "--out", str(tmp_path / out), "--text-field", "body"]
            main(["train", str(text), *words])
        assert Tokenizer.load(tmp_path / "one").hash == Tokenizer.load(tmp_path / "other").hash
        capsys.readouterr()
        tokenizer = ["--tokenizer", str(tmp_path / "one"), "--seconds", "0"]
        main(["report", str(path), *tokenizer, "--text-field", "body"])
        told = capsys.readouterr().out
        # Documents of a .jsonl, .parquet or folder end with END; each file of a pattern is a text.
        ends = END if kind in ("jsonl", "parquet", "folder") else ""
        texts = [END.join(documents) + ends]
        if kind == "pattern":
            texts = [END.join(documents[:10]), END.join(documents[10:])]
        for text in texts:
            assert f"{len(text.encode()):,}" in told

    def test_tokenizer_json_serves_as_tokenizer(self, tokenizer, tmp_path, capfdbinary):
        tokenizer.save(tmp_path / "t")
        (tmp_path / "text.txt").write_bytes(TEXT.encode())
        given = ["--tokenizer", str(tmp_path / "t" / "tokenizer.json")]
        main(["encode", str(tmp_path / "text.txt"), *given, "--out", str(tmp_path / "x.bin")])
        capfdbinary.readouterr()
        main(["decode", str(tmp_path / "x.bin"), *given])
        assert capfdbinary.readouterr().out == TEXT.encode()

    def test_encoding_afresh_is_said(self, tokenizer, tmp_path, capsys):
        tokenizer.save(tmp_path / "t")
        (tmp_path / "text.txt").write_bytes(TEXT.encode())
        (tmp_path / "x.bin.part").write_bytes(b"1234")
        note = {"tokenizer_hash": tokenizer.hash, "text": [], "errors": "strict"}
        (tmp_path / "x.bin.part.json").write_text(json.dumps(note))
        words = ["--tokenizer", str(tmp_path / "t"), "--out", str(tmp_path / "x.bin")]
        main(["encode", str(tmp_path / "text.txt"), *words])
        assert capsys.readouterr().err == (
            f"warning: {tmp_path}/x.bin.part has no note of its progress: encoding starts afresh\n"
        )


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory) -> Path:
    """A folder with a tokenizer and a text of many blocks."""
    folder = tmp_path_factory.mktemp("large")
    tokenizer.save(folder / "t")
    (folder / "large.txt").write_bytes(TEXT.encode() * (30_000_000 // len(TEXT.encode())))
    return folder


INTERRUPTED = """
import os, signal, sys
from fastlm import cli
from fastlm.cli.meter import Meter
from fastlm.tokenizer.__main__ import main

update = Meter.update

def update_and_interrupt(self, label, done, total, *, unit):
    update(self, label, done, total, unit=unit)
    if done >= int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGINT)

Meter.update = update_and_interrupt
cli.run(lambda: main(sys.argv[2:]))
"""


class TestInterruption:
    """Ctrl-C in the middle of a large file: the signal comes when so much of it is read."""

    @staticmethod
    def interrupted(*words: str, n_bytes: int, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", INTERRUPTED, str(n_bytes), *words],
            cwd=cwd,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=600,
        )

    def test_encode_goes_on_where_it_was_interrupted(self, folder, tokenizer):
        words = ["encode", "large.txt", "--tokenizer", "t", "--out", "ids.bin", "--threads", "2"]
        done = self.interrupted(*words, n_bytes=8_000_000, cwd=folder)
        assert done.returncode == 130
        assert done.stderr == "interrupted; the same command goes on from here\n"
        note = json.loads((folder / "ids.bin.part.json").read_text())
        assert 8_000_000 <= note["bytes_read"] < (folder / "large.txt").stat().st_size
        assert not (folder / "ids.bin").exists()

        process = command(*words, cwd=folder)
        told, errors = process.communicate()
        assert (process.returncode, errors) == (0, "")
        assert f"{note['bytes_read']:,} of them encoded before" in told
        expected = np.concatenate(list(tokenizer.encode_file_blocks(folder / "large.txt")))
        np.testing.assert_array_equal(np.fromfile(folder / "ids.bin", "<u2"), expected)
        assert not list(folder.glob("*.part*"))

    def test_train_ends_with_one_line_and_writes_nothing(self, folder):
        words = ["train", "large.txt", "--vocab-size", "300", "--out", "new", "--threads", "2"]
        done = self.interrupted(*words, n_bytes=8_000_000, cwd=folder)
        assert (done.returncode, done.stderr) == (130, "interrupted\n")
        assert not (folder / "new").exists()


class TestMeter:
    def test_lines_come_now_and_then(self, capsys):
        times = iter([0.0, 1.0, 9.0, 12.0, 13.0, 30.0])
        with Meter(clock=lambda: next(times)) as meter:
            for n_bytes in (0, 80_000_000, 110_000_000, 120_000_000, 200_000_000):
                meter.update("reading", n_bytes, 400_000_000, unit="bytes")
        assert capsys.readouterr().err.splitlines() == [
            "reading: 110.0 of 400.0 MB, 10.0 MB/s, 0:29 left",
            "reading: 200.0 of 400.0 MB, 6.9 MB/s, 0:29 left",
        ]
        assert LINE_SECONDS == 10

    def test_each_of_several_files_has_its_own_total_and_rate(self, capsys):
        times = iter(range(0, 200, 20))
        with Meter(clock=lambda: next(times)) as meter:
            show = meter.in_bytes("two files")
            for what, n in (
                ("total", 8_000_000),
                ("bytes", 2_000_000),  # those of an earlier call
                ("bytes", 4_000_000),
                ("bytes", 8_000_000),
                ("bytes", 1_000_000),  # the server does not say how large the second one is
                ("bytes", 3_000_000),
            ):
                show(what, n)
        assert capsys.readouterr().err.splitlines() == [
            "two files: 2.0 of 8.0 MB",
            "two files: 4.0 of 8.0 MB, 0.1 MB/s, 0:40 left",
            "two files: 8.0 of 8.0 MB, 0.1 MB/s, 0:00 left",
            "two files: 1.0 MB",
            "two files: 3.0 MB, 0.1 MB/s",
        ]

    def test_a_terminal_gets_a_bar_that_goes_away(self, monkeypatch):
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setattr(sys, "stderr", Terminal())
        times = iter(float(second) for second in range(10))
        with Meter(clock=lambda: next(times)) as meter:
            for n_bytes in (0, 100_000_000):
                meter.update("reading", n_bytes, 400_000_000, unit="bytes")
            for n_bytes in (0, 3_000_000):
                meter.update("downloading", n_bytes, None, unit="bytes")
            meter.update("learning", 5, 10, unit="merges")
        shown = sys.stderr.getvalue()
        assert "100.0 of 400.0 MB, 100.0 MB/s, 0:03 left" in shown
        assert "3.0 MB, 3.0 MB/s" in shown
        assert "5 of 10 merges" in shown
        assert shown.endswith("\x1b[2K") or "\x1b[2K" in shown.split("5 of 10 merges")[-1]

    def test_what_was_done_before_counts_in_no_rate(self):
        assert describe(60, 100, 10, 2.0, "merges") == "60 of 100 merges, 5 merges/s, 0:08 left"
        assert describe(50, 100, 0, 0.0, "merges") == "50 of 100 merges"

    @pytest.mark.parametrize(
        ("text", "n_bytes"),
        [("12", 12), ("500MB", 500_000_000), ("2 GB", 2 * 10**9), ("1.5kib", 1536), ("3b", 3)],
    )
    def test_sizes_have_units(self, text, n_bytes):
        assert parse_bytes(text) == n_bytes

    @pytest.mark.parametrize("text", ["", "MB", "-1", "1 XB", "1e9"])
    def test_other_sizes_are_refused(self, text):
        with pytest.raises(ValueError, match="such as 500MB"):
            parse_bytes(text)

    def test_a_size_beyond_all_numbers_is_one_line(self):
        with pytest.raises(ValueError, match=r"no files have a size of 9{40}\.\.\.: give fewer"):
            parse_bytes("9" * 400 + "GB")
