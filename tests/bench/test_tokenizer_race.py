"""The race of tokenizers: whom it lets in, what it measures, and what its tables say."""

import json
import time
from pathlib import Path

import pytest
import tokenizer_race
import tokenizer_race_child
import tokenizer_race_parts as parts
from readme_tables import read_table
from tokenizer_contenders import CONTENDERS, Contender, Ways, ids_of, write_vocabulary
from tokenizer_peers import versions_of
from tokenizer_race_tables import BLOCK, table, tables

from fastlm.tokenizer import END_OF_TEXT, Tokenizer, train_bpe

ROOT = Path(__file__).resolve().parents[2]
TEXT = "Once upon a time there was a little girl, who lived by the sea. It's 5 o'clock é😀\n\n" * 40


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory) -> Path:
    work = tmp_path_factory.mktemp("race")
    (work / "text.txt").write_text(TEXT + END_OF_TEXT + TEXT[::-1], encoding="utf-8")
    vocab, merges = train_bpe(work / "text.txt", 300, [END_OF_TEXT])
    write_vocabulary(Tokenizer(vocab, merges, [END_OF_TEXT]), str(work / "vocabulary"))
    return work / "vocabulary"


def setting(tmp_path, contenders, folder=Path(), **changes) -> parts.Setting:
    values = {
        "contenders": contenders,
        "folder": folder,
        "texts": [tmp_path / "my.txt"],
        "work": tmp_path,
        "max_bytes": 600,
        "bulk_bytes": 600,
        "train_bytes": 600,
        "hard_bytes": 800,
        "vocab_size": 300,
        "n_threads": 1,
        "rounds": 2,
        "limit_seconds": 60,
    }
    (tmp_path / "my.txt").write_text(TEXT + END_OF_TEXT + TEXT, encoding="utf-8")
    return parts.Setting(**values | changes)


def made_up(name, to_list, **ways) -> Contender:
    return Contender(name, lambda folder, n_threads: Ways(to_list, **ways))


def codes(text: str) -> list[int]:
    return list(map(ord, text))


OURS = made_up("fastlm", codes)


def burn(seconds: float) -> None:
    began = time.process_time()
    while time.process_time() - began < seconds:
        pass


def case_of(text: str, **changes) -> parts.Case:
    values = {
        "keys": {"text": "t"},
        "way": "to_list",
        "n_bytes": len(text),
        "make": lambda: [text, text],
    }
    return parts.Case(**values | changes)


def rows_of(rows, contender):
    return [row for row in rows if row["contender"] == contender]


class PanicException(BaseException):
    pass


def panic(text):
    raise PanicException("index out of bounds\nin lib.rs")


def fail(text):
    raise ValueError("no such character")


@pytest.mark.parametrize(
    ("to_list", "reason"),
    [
        (lambda text: [*codes(text)[:-1], 0], "other ids, from id 2 on"),
        (lambda text: codes(text)[:-1], "other ids, from id 2 on"),
        (fail, "raises ValueError: no such character"),
        (panic, "raises PanicException: index out of bounds"),
    ],
)
def test_a_peer_with_other_ids_or_none_is_left_out_with_the_reason(
    tmp_path, to_list, reason, capsys
):
    rows = parts.race([case_of("abc")], setting(tmp_path, [OURS, made_up("peer", to_list)]))
    (peer,) = rows_of(rows, "peer")
    assert peer == {"text": "t", "bytes": 3, "contender": "peer", "left_out": reason}
    assert "peer" in capsys.readouterr().err
    (ours,) = rows_of(rows, "fastlm")
    assert ours["n_rounds"] == 2
    assert "warm_times_best_peer" not in ours


def test_ctrl_c_in_a_peer_ends_the_race(tmp_path):
    def interrupted(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parts.race([case_of("abc")], setting(tmp_path, [OURS, made_up("peer", interrupted)]))


def test_a_slow_peer_and_the_one_that_is_best_are_told_by_the_ratios(tmp_path):
    def slow_by(seconds):
        return lambda text: burn(seconds) or codes(text)

    contenders = [
        made_up("fastlm", slow_by(0.004)), made_up("slow", slow_by(0.032)), made_up("best", slow_by(0.016)),
    ]  # fmt: skip
    rows = parts.race([case_of("abc" * 100)], setting(tmp_path, contenders))
    ratios = {row["contender"]: row["warm_times_best_peer"] for row in rows}
    assert ratios["best"] == 1
    assert 2 < ratios["fastlm"] < 6
    assert ratios["slow"] < 0.8
    (ours,) = rows_of(rows, "fastlm")
    speed = ours["bytes"] / ours["warm_seconds"] / 1e6
    assert ours["warm_megabytes_per_cpu_second"] == pytest.approx(speed)


def test_cpu_seconds_are_those_of_work_and_not_of_waiting():
    _, (cpu_seconds, seconds) = parts.timed(time.sleep, 0.05)
    assert cpu_seconds < 0.04 < 0.05 <= seconds


def test_a_peer_whose_time_grows_too_fast_is_left_out_before_it_is_given_the_whole_input(tmp_path):
    seen = []

    def quadratic(text):
        seen.append(len(text))
        burn(0.02)
        return codes(text)

    case = case_of("a" * 80, probe="a" * 10)
    rows = parts.race(
        [case], setting(tmp_path, [OURS, made_up("peer", quadratic)], limit_seconds=1)
    )
    (peer,) = rows_of(rows, "peer")
    assert peer["left_out"].endswith("s of CPU for an input of 1/8 of the size")
    assert seen == [10]


def test_cold_is_the_first_call_of_a_new_object_in_each_round(tmp_path):
    n_loaded = []

    def load(folder, n_threads):
        n_calls = []
        n_loaded.append(n_calls)

        def to_list(text):
            burn(0.0 if n_calls else 0.03)
            n_calls.append(text)
            return codes(text)

        return Ways(to_list)

    (row,) = parts.race([case_of("abc")], setting(tmp_path, [Contender("fastlm", load)]))
    assert row["cold_seconds"] >= 0.03 > 0.02 > row["warm_seconds"]
    measured = [n_calls for n_calls in n_loaded if len(n_calls) == 2]
    assert len(measured) == 2


def test_no_contender_gets_a_text_that_another_has_read(tmp_path):
    read = {}

    def reader(name):
        def to_list(text):
            read.setdefault(name, []).append(text)  # kept, so that no id is used again
            return codes(text)

        return made_up(name, to_list)

    rounds = 2
    parts.measure_text(setting(tmp_path, [reader("fastlm"), reader("peer")], rounds=rounds))
    ids = {name: {id(text) for text in texts} for name, texts in read.items()}
    assert not ids["fastlm"] & ids["peer"]
    assert len(ids["peer"]) == 1 + rounds  # one to compare, then one for each object


def test_lists_with_the_ids_of_another_document_are_refused(tmp_path):
    def load(lists):
        return lambda folder, n_threads: Ways(codes, to_lists=lists)

    joined = Contender("peer", load(lambda documents: [codes("".join(documents)), []]))
    ours = Contender("fastlm", load(lambda documents: list(map(codes, documents))))
    case = case_of("", way="to_lists", make=lambda: [["ab", "c"]] * 2)
    rows = parts.race([case], setting(tmp_path, [ours, joined]))
    assert rows_of(rows, "peer")[0]["left_out"] == "the same ids with other bounds"
    assert "left_out" not in rows_of(rows, "fastlm")[0]


def test_contenders_begin_a_round_in_turn():
    assert [parts.rotated("abc", turn) for turn in range(4)] == [
        *map(list, ("abc", "bca", "cab", "abc"))
    ]
    assert parts.rotated([], 1) == []


def test_all_libraries_that_are_here_have_our_ids_in_every_way(vocabulary, tmp_path):
    here = [c for c in CONTENDERS.values() if "absent" not in versions_of([c.name]).values()]
    assert {"tiktoken", "tokenizers"} <= {c.name for c in here}
    chosen = setting(tmp_path, here, vocabulary, rounds=1)
    measured = {part: parts.PARTS[part](chosen) for part in ("text", "documents", "file", "hard")}
    for part, rows in measured.items():
        assert not [row for row in rows if "left_out" in row], part
        assert {row["contender"] for row in rows} >= {"fastlm"}
    ways = {(row["contender"], row["way"]) for row in measured["text"] + measured["documents"]}
    assert {("tiktoken", "to_numpy"), ("tokenizers", "to_list"), ("fastlm", "to_lists")} <= ways


def test_each_short_call_has_another_text(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "SHORT_CALLS", 10)
    seen = []

    def to_list(text):
        seen.append(text)
        return codes(text)

    text = " ".join(map(str, range(2_000)))
    chosen = setting(tmp_path, [made_up("fastlm", to_list)], max_bytes=10_000, rounds=1)
    chosen.texts[0].write_text(text)
    rows = parts.measure_short(chosen)
    assert [row["bytes_each"] for row in rows] == list(parts.SHORT_BYTES)
    for row in rows:
        microseconds = 1e6 * row["warm_seconds"] / row["n_calls"]
        assert row["warm_microseconds"] == pytest.approx(microseconds)
    of_20 = [text for text in seen if len(text) == 20]
    assert len(set(of_20)) == parts.SHORT_CALLS * (1 + parts.SHORT_REPEATS)


def test_processes_are_measured_in_turn_and_one_that_fails_is_left_out_from_then_on():
    calls = []

    def run(contender, arguments, expected):
        calls.append((contender.name, arguments["n"]))
        if contender.name == "bad":
            raise parts.Refused("ends with -9")
        return {"cpu_seconds": arguments["n"] * (1.0 if contender.name == "fastlm" else 3.0)}

    contenders = [Contender("fastlm"), Contender("bad"), Contender("good")]
    jobs = [({"bytes": n}, {"n": n}, None) for n in (1, 2)]
    rows = parts.race_processes(contenders, jobs, run, 3)
    assert [row["left_out"] for row in rows_of(rows, "bad")] == ["ends with -9"] * 2
    assert calls.count(("bad", 1)) == 1
    assert calls.count(("good", 2)) == 3
    assert [row["cpu_times_best_peer"] for row in rows_of(rows, "fastlm")] == [3.0, 3.0]


def test_jobs_of_processes_load_encode_and_train(vocabulary, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    began = time.monotonic()
    start = {"folder": str(vocabulary), "path": str(path), "n_threads": 1}
    found = [tokenizer_race_child.start(name, began, **start) for name in ("fastlm", "tiktoken")]
    assert found[0]["result"] == found[1]["result"]
    other = tokenizer_race_child.digest(Tokenizer.load(vocabulary).encode(TEXT + "."))
    assert found[0]["result"] != other
    assert found[0]["peak_rss_bytes"] > 1e6
    assert found[0]["cpu_seconds"] > 0
    path.write_text("ab1" * 9 + "cd1" * 7 + "ef1" * 5)  # no two pairs are as frequent
    letters = {bytes([byte]) for byte in range(256)}
    for name in ("fastlm", "tokenizers", "rustbpe"):
        out = tmp_path / name
        tokenizer_race_child.train(name, began, str(path), 259, 1, str(out))
        tokens = {bytes.fromhex(line) for line in out.read_text().split()}
        special = set() if name == "rustbpe" else {END_OF_TEXT.encode()}
        assert tokens == letters | special | {b"ab", b"cd"}


def test_a_process_that_fails_or_takes_too_long_is_told(tmp_path, monkeypatch):
    child = tmp_path / "child.py"
    monkeypatch.setattr(parts, "CHILD", child)
    child.write_text("import sys; sys.exit('no memory')")
    with pytest.raises(parts.Refused, match="ends with 1: no memory"):
        parts.run_child("start", "peer", 60, n_threads=1)
    child.write_text("import time; time.sleep(60)")
    with pytest.raises(parts.Refused, match=r"takes more than 0 s"):
        parts.run_child("start", "peer", 0.2, n_threads=1)
    child.write_text("print('chatter'); print('{\"cpu_seconds\": 1}')")
    assert parts.run_child("start", "peer", 60, n_threads=1) == {"cpu_seconds": 1}


def test_ids_of_all_kinds_of_results_are_one_array():
    import numpy as np

    data = np.array([1, 2, 70_000], np.uint32)
    for result in (
        data,
        data.tolist(),
        data.tobytes(),
        (data, [0, 3]),
        [[1, 2], [], [70_000]],
        [data],
    ):
        assert ids_of(result).tolist() == [1, 2, 70_000]
    assert ids_of([]).tolist() == []


@pytest.fixture
def command(vocabulary, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizer_race, "thread_environment", lambda n_threads: {})
    (tmp_path / "my.txt").write_text(TEXT, encoding="utf-8")

    def run(*flags: str) -> None:
        tokenizer_race.main(
            [str(tmp_path / "my.txt"), "--gpt2", str(vocabulary), *flags, "--rounds", "1"]
        )

    return run


def test_a_part_is_added_to_the_record_of_the_same_machine(command, tmp_path, capsys):
    out = tmp_path / "results" / "record.json"
    command("--out", str(out), "--parts", "text", "--contenders", "tiktoken")
    first = json.loads(out.read_text())
    assert first["cpu"]
    assert first["peers"].keys() == {"tiktoken"}
    assert first["parts"].keys() == {"text"}
    command("--out", str(out), "--parts", "file", "--contenders", "tiktoken")
    record = json.loads(out.read_text())
    assert record["parts"].keys() == {"text", "file"}
    assert record["parts"]["text"] == first["parts"]["text"]
    printed = capsys.readouterr().out
    assert all(table(part, record["parts"][part]) in printed for part in ("text", "file"))
    tokenizer_race.main(["--tables", str(out)])
    assert capsys.readouterr().out.strip() == tables(record)
    out.write_text(json.dumps(record | {"peers": {"tiktoken": "0.1"}}))
    with pytest.raises(ValueError, match="figures of another peers"):
        command("--out", str(out), "--parts", "file", "--contenders", "tiktoken")


def test_a_peer_that_is_not_installed_is_told(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(CONTENDERS, "no-such-peer", made_up("no-such-peer", fail))
    out = tmp_path / "record.json"
    command("--out", str(out), "--parts", "file", "--contenders", "no-such-peer")
    assert "note: not installed: no-such-peer" in capsys.readouterr().err
    record = json.loads(out.read_text())
    assert record["peers"] == {"no-such-peer": "absent"}
    assert {row["contender"] for row in record["parts"]["file"]["rows"]} == {"fastlm"}


@pytest.mark.parametrize("flags", [["--parts", "texts"], ["--contenders", "tiktokens"], []])
def test_what_the_command_cannot_do_is_refused_before_it_begins(command, flags, tmp_path):
    with pytest.raises(ValueError, match=r"unknown part|unknown contender|give text files"):
        command(*flags, *(["--out", str(tmp_path / "out.json")] if flags else []))
    assert not (tmp_path / "out.json").exists()


def test_tables_show_figures_what_is_lacking_and_who_is_left_out():
    speeds = {f"{state}_megabytes_per_cpu_second": 123.4 for state in ("cold", "warm")}
    ratios = {"cold_times_best_peer": 1.5, "warm_times_best_peer": 0.994}
    keys = {"text": "code", "bytes": 5_000_000}
    rows = [
        {**keys, "way": "to_numpy", "contender": "fastlm", **speeds, **ratios},
        {**keys, "way": "to_numpy", "contender": "gigatoken", **speeds, **ratios},
        {**keys, "way": "to_numpy", "contender": "bad", "left_out": "other ids, from id 7 on"},
        {**keys, "way": "to_list", "contender": "fastlm", **speeds},
    ]
    assert table("text", {"n_threads": 2, "rows": rows}).splitlines() == [
        "One text: MB per CPU second, cold / warm:",
        "",
        "|  | fastlm | gigatoken | bad | fastlm beside the best |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| code, to numpy | 123 / 123 | 123 / 123 | left out | 1.50 / 0.99 |",
        "| code, to a list | 123 / 123 | – | – | – |",
        "",
        "- bad is left out of code, to numpy: other ids, from id 7 on",
    ]
    process = {"cpu_seconds": 1.25, "wall_seconds": 0.7, "peak_rss_bytes": 260e6, "n_threads": 2}
    rows = [
        {**keys, **process, "contender": name, "cpu_times_best_peer": 2.0}
        for name in ("fastlm", "a")
    ]
    trained = table("train", {"n_threads": 2, "rows": rows}).splitlines()[-1]
    assert (
        trained == "| code, 5 MB, threads: 2 | 1.25 (0.70), 260 MB | 1.25 (0.70), 260 MB | 2.00 |"
    )
    about = {
        "cpu": "A CPU",
        "cpu_flags": ["avx2"],
        "n_cores": 2,
        "peers": {"a": "1.0"},
        "parts": {},
    }
    assert tables(about) == "A CPU with AVX2, 2 cores; a 1.0."
    assert "with AVX-512," in tables(about | {"cpu_flags": ["avx2", "avx512f"]})


def test_the_page_shows_the_tables_of_the_record_that_it_names():
    shown = read_table(ROOT / "docs" / "tokenizer.md", BLOCK)
    records = sorted((ROOT / "bench" / "results").glob("tokenizer-race-*.json"))
    if not records:
        assert shown == ""
        return
    assert shown in [tokenizer_race.page(record) for record in records]
