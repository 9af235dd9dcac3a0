"""A Python that starts with this folder on PYTHONPATH has no Triton, as on macOS and Windows.

PYTHONPATH=tests/support/without_triton:. python -m pytest -m "not slow"
"""

from importlib.machinery import PathFinder

_find_spec = PathFinder.find_spec


def _find_all_but_triton(finder, name, path=None, target=None):
    return None if name.partition(".")[0] == "triton" else _find_spec(name, path, target)


PathFinder.find_spec = classmethod(_find_all_but_triton)
