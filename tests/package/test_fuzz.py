"""Changed files are refused plainly and never taken for what they were (fuzz_files.py)."""

import shutil

import pytest
from fuzz_files import fuzz

from fastlm.tokenizer import Tokenizer


def test_changed_files_are_refused_or_read_as_before(data, finished, tmp_path):
    answers = fuzz(data, finished[0], 400, tmp_path)
    print(dict(answers))
    assert set(answers) == {"read", "refused"}, answers
    assert answers["refused"] > 200


@pytest.mark.parametrize("number", ["Infinity", "0.5", '"300"', "[]"])
def test_ids_that_are_no_whole_numbers_are_refused(number, data, tmp_path):
    folder = shutil.copytree(data / "tokenizer", tmp_path / "tokenizer")
    (folder / "special_tokens.json").write_text(f'{{"<|endoftext|>": {number}}}')
    with pytest.raises(ValueError, match="must be a JSON object of special tokens and ids"):
        Tokenizer.load(folder)
