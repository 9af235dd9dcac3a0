"""python -m fastlm.tokenizer report: tables, files, names and one-line errors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import check_refused

from fastlm.tokenizer import Tokenizer, train_bpe_from_documents
from fastlm.tokenizer.__main__ import main
from fastlm.tokenizer.comparison import Table, as_json, make_report, name_paths, tables

END = "<|endoftext|>"
STORY = f"the cat sat on the mat, didn't it?{END}\nOne more: 中文 😀 the the{END}the end" * 3
WEB = f"A | in `code`, and **more** | of it.{END}" * 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two texts, and a tokenizer of each."""
    folder = tmp_path_factory.mktemp("report")
    for name, text, size in (("story", STORY, 290), ("web", WEB, 270)):
        (folder / f"{name}.txt").write_bytes(text.encode())
        vocab, merges = train_bpe_from_documents([text], size, [END])
        Tokenizer(vocab, merges, [END]).save(folder / "toks" / name)
    return folder


@pytest.fixture
def ran(folder, tmp_path, capsys):
    """Return a function that runs the command and returns its output, its JSON and its Markdown."""

    def run(texts: list[str], tokenizers: list[str], *more: str):
        words = [str(folder / text) for text in texts]
        words += ["--tokenizer", *(str(folder / "toks" / name) for name in tokenizers)]
        outs = [str(tmp_path / "r.json"), str(tmp_path / "r.md")]
        main(["report", *words, "--seconds", "0", "--json", outs[0], "--md", outs[1], *more])
        record = json.loads(Path(outs[0]).read_text(encoding="utf-8"))
        return capsys.readouterr().out, record, Path(outs[1]).read_text(encoding="utf-8")

    return run


def cells(printed: str, title: str) -> list[list[str]]:
    """Rows of a printed table, header included."""
    (table,) = [part for part in printed.split("\n\n") if part.startswith(title)]
    lines = table.splitlines()
    start = next(i for i, line in enumerate(lines) if "  " in line)
    return [line.split() for line in lines[start:]]


class TestCommand:
    def test_matrix_holds_every_tokenizer_on_every_text(self, folder, ran):
        printed, record, _ = ran(["story.txt", "web.txt"], ["story", "web"])
        header, *rows = cells(printed, "Bytes per token of each tokenizer")
        assert header == ["tokenizer", "story.txt", "web.txt"]
        assert [row[0] for row in rows] == ["story", "web", "character", "byte", "word"]
        for name, *ratios in rows[:2]:
            loaded = Tokenizer.load(folder / "toks" / name)
            for text, ratio in zip((STORY, WEB), ratios, strict=True):
                expected = len(text.encode()) / len(loaded.encode(text))
                assert ratio == f"{expected:.3f}"
        assert rows[3][1:] == ["1.000", "1.000"]
        found = {
            (text["name"], measure["tokenizer"]): measure["n_tokens"]
            for text in record["texts"]
            for measure in text["measures"]
        }
        assert len(found) == 10
        assert found["web.txt", "character"] == len(WEB)

    def test_overlap_and_longest_tokens_are_of_the_vocabularies(self, folder, ran):
        printed, record, _ = ran(["web.txt"], ["story", "web"], "--n-longest", "1")
        learned = [
            {t for t in Tokenizer.load(folder / "toks" / name).vocab.values() if t != END.encode()}
            for name in ("story", "web")
        ]
        shared = len(learned[0] & learned[1])
        (pair,) = record["overlaps"]
        assert pair["n_shared"] == shared
        assert pair["share_of_smaller"] == shared / len(learned[1])
        assert pair["jaccard"] == shared / len(learned[0] | learned[1])
        assert cells(printed, "Overlap")[1][:5] == ["story", "web", "289", "269", str(shared)]
        for tokens, one in zip(learned, record["tokenizers"], strict=True):
            (longest,) = one["longest_tokens"]
            assert longest["bytes"] == max(map(len, tokens))
            assert longest["text"].encode() in tokens
        assert len(cells(printed, "Longest tokens")) == 3

    def test_token_file_is_as_large_as_said(self, folder, ran, tmp_path):
        _, record, _ = ran(["story.txt"], ["story"])
        out = tmp_path / "story.bin"
        main(["encode", str(folder / "story.txt"), "--tokenizer", str(folder / "toks" / "story"), "--out", str(out)])  # fmt: skip
        measure = record["texts"][0]["measures"][0]
        assert measure["token_file_bytes"] == out.stat().st_size
        assert json.loads(out.with_name("story.bin.json").read_text())["dtype"] == measure["dtype"]

    def test_first_documents_are_as_many_as_asked_for(self, ran):
        _, record, _ = ran(["story.txt", "web.txt"], ["web"], "--documents", "3")
        assert [text["documents"] for text in record["texts"]] == [7, 5]
        assert [text["first_documents"] for text in record["texts"]] == [3, 3]
        assert record["texts"][1]["first_documents_bytes"] == 3 * (len(WEB) // 5 - len(END))

    def test_what_is_given_twice_counts_once(self, folder, capsys):
        text, tokenizer = str(folder / "web.txt"), str(folder / "toks" / "web")
        main(["report", text, text, "--tokenizer", tokenizer, tokenizer, "--tokenizer", tokenizer, "--seconds", "0"])  # fmt: skip
        printed = capsys.readouterr().out
        assert len(cells(printed, "Compression")) == 5
        assert "Overlap" not in printed
        assert "on each text" not in printed

    def test_markdown_holds_the_printed_cells(self, ran):
        printed, _, markdown = ran(["story.txt", "web.txt"], ["story", "web"])
        rows = [line for line in markdown.splitlines() if line.startswith("| web.txt | story |")]
        shown = [row for row in cells(printed, "Compression") if row[:2] == ["web.txt", "story"]]
        assert rows[0] == f"| {' | '.join(shown[0])} |"

    def test_invalid_utf8_can_be_replaced(self, folder, tmp_path, capsys):
        path = tmp_path / "bad.txt"
        path.write_bytes(b"good\xff")
        main(["report", str(path), "--tokenizer", str(folder / "toks" / "web"), "--errors", "replace", "--seconds", "0"])  # fmt: skip
        assert cells(capsys.readouterr().out, "Texts")[1][1] == "7"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--tokenizer", "toks/web"], "at least one text, before --tokenizer: got none"),
            (["web.txt"], "at least one tokenizer, with --tokenizer: got none"),
            (["no.txt", "--tokenizer", "toks/web"], "no.txt: expected a text file or a folder"),
            (["web.txt", "--tokenizer", "no"], "no such folder"),
            (["web.txt", "--tokenizer", "toks/web", "--json", "no/r.json"], "make it first"),
            (["web.txt", "--tokenizer", "toks/web", "--md", "toks"], "toks is a folder"),
            (["web.txt", "--tokenizer", "toks/web", "--md", "web.txt"], "web.txt is read"),
            (
                ["web.txt", "--tokenizer", "toks/web", "--md", "r", "--json", "r"],
                "must be two files",
            ),
            (["web.txt", "--tokenizer", "toks/web", "--documents", "0"], "at least 1: got 0"),
            (["web.txt", "--tokenizer", "toks/web", "--n-longest", "-1"], "must not be negative"),
            (["web.txt", "--tokenizer", "toks/web", "--seconds", "nan"], "must not be negative"),
        ],
    )
    def test_bad_input_is_one_line_and_writes_nothing(
        self, folder, arguments, message, monkeypatch, capfd
    ):
        monkeypatch.chdir(folder)
        before = sorted(folder.rglob("*"))
        check_refused(lambda: main(["report", *arguments]), message, capfd)
        assert sorted(folder.rglob("*")) == before


class TestParts:
    def test_names_are_the_shortest_that_differ(self):
        paths = [Path("a/tok"), Path("b/tok"), Path("c/text.txt"), Path("a/tok"), Path("c/word")]
        assert [name for name, _ in name_paths(paths)] == ["a/tok", "b/tok", "text.txt", "word"]
        assert name_paths(paths, ["word"])[-1] == ("c/word", Path("c/word"))
        assert name_paths([Path("x/../tok"), Path("tok")]) == [("tok", Path("tok"))]
        odd = [Path("by\udcfftes.txt"), Path("re\x1b[31md")]
        assert [name for name, _ in name_paths(odd)] == ["by\\udcfftes.txt", "re\\x1b[31md"]

    def test_marks_of_markdown_are_kept_out_of_cells(self):
        table = Table("T", "n", ["name", "token", "n"], [["a|b", "'`|'", "1"]], n_left=2, code=1)
        assert table.as_markdown().splitlines() == [
            "**T**: n", "", "| name | token | n |", "| --- | --- | ---: |", "| a\\|b | ``'`\\|'`` | 1 |",
        ]  # fmt: skip
        assert table.as_text().splitlines() == ["T: n", "name  token  n", "a|b   '`|'   1"]

    def test_progress_is_told_for_each_text(self, folder):
        told = []
        report = make_report(
            [folder / "web.txt", folder / "story.txt"],
            [folder / "toks" / "web"],
            min_seconds=0,
            on_progress=lambda *args: told.append(args),
        )
        assert told == [("web.txt", len(WEB)), ("story.txt", len(STORY.encode()))]
        assert len(list(tables(report))) == 6

    def test_json_can_be_read_where_there_are_no_documents(self, folder, tmp_path):
        (tmp_path / "blank.txt").write_text(" \n ")
        report = make_report([tmp_path / "blank.txt"], [folder / "toks" / "web"], min_seconds=0)
        record = json.loads(json.dumps(as_json(report), allow_nan=False))
        assert record["texts"][0]["measures"][0]["document_bytes_per_token"] is None
        compression = next(t for t in tables(report) if t.title == "Compression")
        assert compression.rows[0][5] == "-"

    def test_report_loads_no_torch(self, folder):
        code = (
            "import sys\nfrom fastlm.tokenizer.__main__ import main\n"
            "main(['report', 'web.txt', '--tokenizer', 'toks/web', '--seconds', '0'])\n"
            "assert 'torch' not in sys.modules"
        )
        root = Path(__file__).resolve().parents[2]
        environment = {"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"}
        subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environment, check=True, capture_output=True
        )  # fmt: skip
