"""Names say which texts are for training; else documents, or the end of few of them, are held out."""

import re
from pathlib import Path

import pytest

from fastlm.corpus.text_files import find_texts
from fastlm.data import splits
from fastlm.data.splits import Texts, split_by_names

END = "<|endoftext|>"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"the text of {name}")


def split_of(folder: Path, texts: list[object]) -> tuple[list[str], ...]:
    found = split_by_names(find_texts(texts).files)  # type: ignore[arg-type]
    return tuple([path.relative_to(folder).as_posix() for path in paths] for paths in found)


NAMES = [
    # as Hugging Face's datasets reads them: the words of folders, else those of files
    (["train/0.txt", "validation/0.txt", "test/0.txt"], "train/0.txt", "validation/0.txt", "test/0.txt", ""),
    (["training/0.txt", "dev/0.txt", "evaluation/0.txt"], "training/0.txt", "dev/0.txt", "evaluation/0.txt", ""),
    (["a/train/0.txt", "b/train/0.txt", "b/val/0.txt"], "a/train/0.txt b/train/0.txt", "b/val/0.txt", "", ""),
    (["train/test-drive.txt", "val/training-day.txt"], "train/test-drive.txt", "val/training-day.txt", "", ""),
    (["owt_train.txt", "owt_valid.txt", "eval.txt"], "owt_train.txt", "owt_valid.txt", "eval.txt", ""),
    (["V2-GPT4-train.txt", "V2-GPT4-val.txt"], "V2-GPT4-train.txt", "V2-GPT4-val.txt", "", ""),
    (["Training.txt", "VALIDATION.txt", "Test.TXT"], "Training.txt", "VALIDATION.txt", "Test.TXT", ""),
    (["train-00.txt", "train-01.txt", "dev1.txt"], "train-00.txt train-01.txt", "dev1.txt", "", ""),
    (["train/0.txt", "valid.txt"], "train/0.txt", "valid.txt", "", ""),
    # a text of no split beside both is left out, and one for tests is never trained on
    (["train.txt", "valid.txt", "README.txt"], "train.txt", "valid.txt", "", "README.txt"),
    (["train.txt", "test.txt"], "train.txt", "", "test.txt", ""),
    (["a.txt", "test/b.txt"], "a.txt", "", "test/b.txt", ""),
    # what is not for validation is for training
    (["books.txt", "valid.txt", "wiki.txt"], "books.txt wiki.txt", "valid.txt", "", ""),
    (["notes.txt", "train.txt"], "notes.txt train.txt", "", "", ""),
    (["carnival.txt", "restraint.txt", "latest.txt"], "carnival.txt latest.txt restraint.txt", "", "", ""),
    (["étrain.txt", "valide.txt", "train中.txt"], "train中.txt valide.txt étrain.txt", "", "", ""),
    (["train-and-valid.txt", "a.txt"], "a.txt train-and-valid.txt", "", "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("names", "train", "val", "test", "unnamed"), NAMES)
def test_names_say_the_split_in_a_folder_and_in_a_pattern(
    names, train, val, test, unnamed, tmp_path
):
    touch(tmp_path / "in", *names)
    expected = tuple(part.split() for part in (train, val, test, unnamed))
    assert split_of(tmp_path / "in", [tmp_path / "in"]) == expected
    if not any("TXT" in name for name in names):
        assert split_of(tmp_path / "in", [f"{tmp_path}/in/**/*.txt"]) == expected
    if not unnamed and not test.startswith("test/b"):
        given = sorted(tmp_path / "in" / name for name in names)
        assert split_of(tmp_path / "in", given) == expected


@pytest.mark.parametrize("folder", ["test", "train", "valid", "my-eval"])
def test_where_texts_lie_says_nothing_about_a_single_place(folder, tmp_path):
    touch(tmp_path, f"{folder}/a.txt", f"{folder}/b.txt")
    expected = ([f"{folder}/a.txt", f"{folder}/b.txt"], [], [], [])
    for texts in (
        [tmp_path / folder],
        [f"{tmp_path}/{folder}/*.txt"],
        sorted((tmp_path / folder).iterdir()),
    ):
        assert split_of(tmp_path, texts) == expected


@pytest.mark.parametrize(
    ("given", "train", "val", "test"),
    [
        (["test/home/texts", "other"], "test/home/texts/a.txt other/a.txt", "", ""),
        (["val/me", "test/you"], "val/me/a.txt test/you/a.txt", "", ""),
        (["x/training", "y/validation"], "x/training/a.txt", "y/validation/a.txt", ""),
        (["other", "test"], "other/a.txt", "", "test/a.txt"),
        (["train/en", "val/en", "test/en"], "train/en/a.txt", "val/en/a.txt", "test/en/a.txt"),
        (["train/en/*", "val/fr"], "train/en/a.txt", "val/fr/a.txt", ""),
        (["test/x", "test/x/val"], "test/x/a.txt", "test/x/val/a.txt", ""),
    ],
)
def test_folders_above_given_ones_say_nothing_by_chance(given, train, val, test, tmp_path):
    touch(tmp_path, *(f"{path.removesuffix('/*')}/a.txt" for path in given))
    found = split_of(tmp_path, [tmp_path / path for path in given])
    assert found == (train.split(), val.split(), test.split(), [])


def test_a_text_whose_last_word_is_test_is_not_trained_on_and_several_words_are_told(tmp_path):
    touch(tmp_path, "train_test_split-test.txt", "train-and-valid.txt", "train.txt")
    texts = Texts([tmp_path], val_fraction=0.01)
    assert [path.name for path in texts.files] == ["train-and-valid.txt", "train.txt"]
    assert texts.notes == [
        (
            "note: not read: 1 text for tests, as the names say "
            f"({tmp_path}/train_test_split-test.txt)"
        ),
        (
            "note: for training: 1 text whose names say several splits "
            f"({tmp_path}/train-and-valid.txt)"
        ),
    ]
    alone = Texts([tmp_path / "train_test_split-test.txt"], val_fraction=0.01)
    assert "note: for training: 1 text whose names say several splits" in alone.notes[0]


def test_folders_of_given_files_are_believed_only_where_one_says_training(tmp_path):
    touch(tmp_path, "test/a.txt", "home/b.txt")
    given = [tmp_path / "test/a.txt", tmp_path / "home/b.txt"]
    assert split_of(tmp_path, given) == (["test/a.txt", "home/b.txt"], [], [], [])


@pytest.mark.parametrize("name", ["test.txt", "valid.txt"])
def test_a_text_that_is_given_alone_is_read_and_one_that_is_found_alone_is_refused(name, tmp_path):
    touch(tmp_path, name)
    assert split_of(tmp_path, [tmp_path / name]) == ([name], [], [], [])
    for text in (tmp_path, f"{tmp_path}/*"):
        with pytest.raises(ValueError, match=rf"{name}: expected texts to train on, got texts for"):
            split_of(tmp_path, [text])


def test_a_link_puts_no_text_into_both_splits(tmp_path):
    touch(tmp_path, "train/a.txt", "train/b.txt")
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid/b.txt").symlink_to("../train/b.txt")
    (tmp_path / "valid/c.txt").write_text("c")
    assert split_of(tmp_path, [tmp_path])[:2] == (["train/a.txt", "train/b.txt"], ["valid/c.txt"])


def test_what_is_not_read_is_noted(tmp_path):
    touch(tmp_path, "train.txt", "test.txt", "valid.txt", "README.txt", "x.md")
    notes = Texts([tmp_path], val_fraction=0.01).notes
    assert notes == [
        f"note: not read: 1 file of another kind ({tmp_path}/x.md)",
        f"note: not read: 1 text for tests, as the names say ({tmp_path}/test.txt)",
        (
            "note: not read: 1 text beside those whose names say training or validation "
            f"({tmp_path}/README.txt)"
        ),
    ]


def test_flags_that_have_no_effect_are_told(tmp_path):
    touch(tmp_path, "train.txt", "valid.txt")
    for options, told in (
        (
            {"val_fraction": 0.3},
            ["note: --val-fraction has no effect: names say what to validate on"],
        ),
        (
            {"text_field": "body"},
            ["note: --text-field has no effect: no text is JSON lines or Parquet"],
        ),
        ({}, []),
    ):
        assert Texts([tmp_path], **({"val_fraction": 0.01} | options)).notes == told


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
