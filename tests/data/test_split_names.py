"""Names of files and folders say which texts are for training, validation and tests."""

from pathlib import Path

import pytest

from fastlm.corpus.text_files import find_texts
from fastlm.data.split_names import split_by_names
from fastlm.data.splits import Texts


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
