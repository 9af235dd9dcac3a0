"""numba's cache is left aside when files of the kernels' folder change, or where it fails."""

import errno
import importlib.util
import multiprocessing
import pickle
import shutil
import warnings
from pathlib import Path

import numba
import pytest
from numba.core import caching

from fastlm.tokenizer.bpe import cache, compiler, count

FOLDER = Path(cache.__file__).parent


def test_kernels_are_stamped_with_the_whole_folder():
    file = count._count._cache.cache._cache_file
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


def import_other(folder: Path):
    (folder / "other.py").write_text("def one() -> numba.int64:\n    return 1\n")
    spec = importlib.util.spec_from_file_location("other", folder / "other.py")
    other = importlib.util.module_from_spec(spec)
    other.numba = numba
    spec.loader.exec_module(other)
    return other


def test_functions_of_other_folders_are_cached_as_ever(tmp_path):
    compiled = numba.njit(cache=True)(import_other(tmp_path).one)
    assert compiled() == 1
    stamp = compiled._cache._cache_file._source_stamp
    assert cache.folder_hash() not in pickle.dumps(stamp).decode("latin-1")


@pytest.fixture
def not_told(monkeypatch):
    monkeypatch.setattr(cache, "_told", [])


def warned(call, expected) -> list[str]:
    """The warnings of a call, whose result is the expected one."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert call() == expected
    return [str(warning.message) for warning in caught]


def test_without_a_place_for_a_cache_kernels_are_compiled_and_one_warning_says_so(
    tmp_path, monkeypatch, not_told
):
    """numba raises RuntimeError then, when a kernel is defined."""
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    one = import_other(tmp_path).one
    kernels = [compiler.kernel(one) for _ in range(2)]
    (line,) = warned(kernels[0], 1)
    for part in ("no folder", "each start compiles", "NUMBA_CACHE_DIR"):
        assert part in line
    assert not warned(kernels[1], 1)
    cache._told.clear()
    shared = compiler._Shared(0, one)
    assert warned(lambda: shared.address > 0, True) == [line]
    assert cache.find_cache(one) is None


def test_workers_do_not_repeat_the_warning(tmp_path, monkeypatch, not_told):
    monkeypatch.setattr(multiprocessing, "parent_process", multiprocessing.current_process)
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert not warned(compiler.kernel(import_other(tmp_path).one), 1)


def test_a_damaged_cache_is_told_and_kernels_are_compiled(tmp_path, not_told):
    one = import_other(tmp_path).one
    assert not warned(compiler.kernel(one), 1)
    indexes = list(tmp_path.rglob("other.one-*.nbi"))
    assert indexes
    for index in indexes:
        index.write_bytes(index.read_bytes()[:20])
    (line,) = warned(compiler.kernel(one), 1)
    assert str(indexes[0].parent) in line
    assert "remove it" in line
    cache._told.clear()
    assert warned(lambda: compiler._Shared(0, one).address > 0, True) == [line]


def test_a_cache_on_a_full_disk_is_told_and_kernels_are_compiled(tmp_path, monkeypatch, not_told):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    one = import_other(tmp_path).one
    monkeypatch.setattr(caching.IndexDataCacheFile, "_open_for_write", refuse)
    (line,) = warned(compiler.kernel(one), 1)
    assert "No space left on device" in line
    cache._told.clear()
    assert warned(lambda: compiler._Shared(0, one).address > 0, True) == [line]
