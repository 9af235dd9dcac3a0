"""numba's cache of machine code, so that a change in any file of this folder is noticed.

By itself numba looks only at the file that defines a kernel: after a change of a function that
another file calls, or of the number of a field, it would run code that no longer fits the rest.
"""

import functools
import hashlib
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parent


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
