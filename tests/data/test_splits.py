"""Where no name says validation, the asked share of the documents or the end of few is held out."""

import re
from pathlib import Path

import pytest

from fastlm.data import splits
from fastlm.data.splits import Texts

END = "<|endoftext|>"


def parts(path: Path, fraction: float) -> tuple[list[str], list[str]]:
    texts = Texts([path], val_fraction=fraction)
    both = []
    for reading in (texts.train(), texts.val()):
        joined = "".join(text + (END if is_end else "") for text, is_end in reading)
        assert joined.endswith(END)
        both.append(joined.split(END)[:-1])
    return both[0], both[1]


@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 1 / 3, 0.4, 0.45, 0.49, 0.5])
def test_exactly_the_asked_share_of_many_documents_is_held_out(fraction, tmp_path):
    documents = [f"document {i:03}" for i in range(200)]
    (tmp_path / "a.txt").write_text(END.join(documents))
    train, val = parts(tmp_path / "a.txt", fraction)
    assert len(val) == int(200 * fraction + 1e-9)
    assert sorted(train + val) == documents
    period = round(1 / fraction)
    if abs(period * fraction - 1) < 1e-9:  # as it always was where one of so many is held out
        assert val == documents[period - 1 :: period]


def test_one_document_with_a_long_last_line_is_cut_near_its_end(tmp_path):
    text = "A Title\n" + "once upon a time there was a cat " * 500
    (tmp_path / "book.txt").write_text(text)
    (train,), (val,) = parts(tmp_path / "book.txt", 0.01)
    assert train + val == text
    assert len(text) * 0.009 < len(val) < len(text) * 0.011
    assert train.endswith(" ")


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.3, 0.5])
def test_a_page_beside_a_book_is_no_split(order, fraction, tmp_path):
    book = "".join(f"line {i} of a long book\n" for i in range(5000))
    documents = ["a short page\n", book][::order]
    (tmp_path / "a.txt").write_text(END.join(documents))
    train, val = parts(tmp_path / "a.txt", fraction)
    assert "".join(train + val) == "".join(documents)
    share = len("".join(val)) / len("".join(documents))
    assert fraction * 0.9 < share < fraction * 1.2


@pytest.mark.parametrize("huge", [0, 98, 99, 199])
def test_a_huge_document_among_many_makes_no_split_tiny(huge, tmp_path):
    documents = [f"document {i}\n" * (20_000 if i == huge else 1) for i in range(200)]
    (tmp_path / "a.txt").write_text(END.join(documents))
    train, val = parts(tmp_path / "a.txt", 0.01)
    assert "".join(sorted(train)) != "".join(sorted(documents))
    n_all = sum(map(len, documents))
    assert sum(map(len, train + val)) == n_all
    assert n_all / 500 < sum(map(len, val)) < n_all / 20


def test_the_end_of_few_documents_begins_with_one_of_them_where_that_is_near(tmp_path):
    documents = [f"{i} and more\n" * 10 for i in range(5)]
    (tmp_path / "a.txt").write_text(END.join(documents))
    assert parts(tmp_path / "a.txt", 0.15) == (documents[:4], documents[4:])


def test_a_large_text_is_looked_at_until_its_splits_are_large(tmp_path, monkeypatch):
    monkeypatch.setattr(splits, "LOOKED_AT_CHARACTERS", 1000)
    documents = [f"document {i:03}" for i in range(10_000)]
    (tmp_path / "a.txt").write_text(END.join(documents))
    read = []
    pieces = splits.iter_pieces

    def reading(*args, **options):
        for piece in pieces(*args, **options):
            read.append(piece)
            yield piece

    monkeypatch.setattr(splits, "iter_pieces", reading)
    Texts([tmp_path / "a.txt"], val_fraction=0.1).check()
    assert 80 < len(read) < 100


def test_a_single_character_cannot_be_split(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ValueError, match=re.escape("a.txt: expected text of which a part can be")):
        Texts([tmp_path / "a.txt"], val_fraction=0.5).check()
    (tmp_path / "a.txt").write_text("ab")
    assert parts(tmp_path / "a.txt", 0.01) == (["a"], ["b"])
