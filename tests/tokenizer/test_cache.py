"""numba's cache is left aside when any file of the kernels' folder has changed."""

import importlib.util
import pickle
import shutil
from pathlib import Path

import numba

from fastlm.tokenizer.bpe import cache, count

FOLDER = Path(cache.__file__).parent


def test_kernels_are_stamped_with_the_whole_folder():
    file = count._count._cache._cache_file
    assert file._source_stamp[1] == cache.folder_hash()


def test_a_change_of_any_file_changes_the_hash(tmp_path, monkeypatch):
    shutil.copytree(FOLDER, tmp_path / "bpe", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cache, "_FOLDER", tmp_path / "bpe")
    hashes = {cache.folder_hash.__wrapped__()}
    assert hashes == {cache.folder_hash()}
    for name in ("fields.py", "walk.py", "new.py"):
        with open(tmp_path / "bpe" / name, "a") as file:
            file.write("# changed\n")
        hashes.add(cache.folder_hash.__wrapped__())
    assert len(hashes) == 4


def test_functions_of_other_folders_are_cached_as_ever(tmp_path, monkeypatch):
    (tmp_path / "other.py").write_text("def one():\n    return 1\n")
    spec = importlib.util.spec_from_file_location("other", tmp_path / "other.py")
    other = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(other)
    compiled = numba.njit(cache=True)(other.one)
    assert compiled() == 1
    stamp = compiled._cache._cache_file._source_stamp
    assert cache.folder_hash() not in pickle.dumps(stamp).decode("latin-1")
