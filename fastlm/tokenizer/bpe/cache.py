"""numba's cache of machine code, so that a change in any file of this folder is noticed.

By itself numba looks only at the file that defines a kernel: after a change of a function that
another file calls, or of the number of a field, it would run code that no longer fits the rest.

Without a cache, or with one that is full or damaged, numba raises errors. Here the kernels are
compiled all the same, and one warning says so. There is no cache below the temporary folder in its
place: numba's cache is pickled code, and others could put theirs there.
"""

import functools
import hashlib
import multiprocessing
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parent

REMEDY = "set NUMBA_CACHE_DIR to a folder that you can write to"
_told: list[str] = []
"""The warning of this process, once it is given"""


def find_cache(function: Any) -> str | None:
    """Return the folder in which numba keeps a function's machine code; None if there is none."""
    from numba.core.caching import FunctionCache

    try:
        return str(FunctionCache(function).cache_path)
    except RuntimeError:  # no locator finds a place that can be written to
        return None


def _tell(what: str, remedy: str) -> None:
    """Warn once, and not from the workers of a process that warns itself."""
    if not _told and multiprocessing.parent_process() is None:
        _told.append(
            f"{what}: each start compiles the tokenizer's kernels anew, which takes about 5 s; "
            f"{remedy}"
        )
        warnings.warn(_told[0], stacklevel=2)


def _tell_of_none() -> None:
    _tell("there is no folder to keep machine code in", REMEDY)


def _tell_of_failure(folder: str, error: Exception) -> None:
    reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
    _tell(f"the cache of machine code in {folder} fails ({reason})", f"remove it, or {REMEDY}")


class KernelCache:
    """The cache of one kernel, whose failures cost the time of compiling and nothing else.

    Args:
        cache: numba's cache; None if there is no place for one.
    """

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self.cache_path = None if cache is None else cache.cache_path

    def load_overload(self, signature: Any, context: Any) -> Any:
        """Return what was compiled earlier for a signature; None if nothing was."""
        if self.cache is None:
            _tell_of_none()
            return None
        try:
            return self.cache.load_overload(signature, context)
        except Exception as error:  # unpickling a damaged file raises many types
            _tell_of_failure(self.cache.cache_path, error)
            return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep what was compiled."""
        if self.cache is None:
            return
        try:
            self.cache.save_overload(signature, compiled)
        except Exception as error:  # a full disk, or a damaged index, which it reads first
            _tell_of_failure(self.cache.cache_path, error)


def keep(kernel: Any) -> Any:
    """Give a kernel that numba.njit has made, without a cache, one that may fail."""
    try:
        kernel.enable_caching()
    except RuntimeError:  # no locator finds a place that can be written to
        kernel._cache = KernelCache(None)
    else:
        kernel._cache = KernelCache(kernel._cache)
    return kernel


def made_kept(make: Callable[..., Any], function: Any) -> Any:
    """Return make(function, cache=True), or cache=False where the cache is missing or fails."""
    if (folder := find_cache(function)) is None:
        _tell_of_none()
        return make(function, cache=False)
    try:
        return make(function, cache=True)
    except Exception as error:
        made = make(function, cache=False)  # fails again if the function is at fault
        _tell_of_failure(folder, error)
        return made


@functools.cache
def folder_hash() -> str:
    """Return a hash of the names and contents of this folder's files."""
    digest = hashlib.sha256()
    for path in sorted(_FOLDER.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _of_folder(locator: Any) -> Any:
    """Derive a locator of numba's cache that serves only functions of this folder."""

    class Located(locator):  # type: ignore[misc]
        @classmethod
        def from_function(cls, py_func: Any, py_file: str) -> Any:
            if Path(py_file).resolve().parent != _FOLDER:
                return None
            return super().from_function(py_func, py_file)

        def get_source_stamp(self) -> tuple[Any, str]:
            return super().get_source_stamp(), folder_hash()

    return Located


def notice_changes() -> None:
    """Let numba compile this folder's kernels anew after a change in any of its files.

    Raises:
        ImportError, AttributeError: if numba lacks the private names that this needs.
    """
    from numba.core.caching import CacheImpl

    known = CacheImpl._locator_classes
    known[:0] = [_of_folder(locator) for locator in known]
