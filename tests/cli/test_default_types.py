"""A default value is of its flag's type, or not, as typeguard says."""

import inspect
from pathlib import Path
from types import SimpleNamespace

import pytest
import tyro

from fastlm.cli import default_types
from fastlm.cli.default_types import answer_without_typeguard, is_of_type

KINDS = [
    int | None,
    float | str,
    Path | None,
    type(None),
    tuple[()],
    tuple[int, ...],
    tuple[float, float],
    tuple[float, float] | None,
    tuple[tuple[str, ...], ...],
    tuple,
    list[int],
    dict[str, int],
    inspect.getsource,
]
VALUES = [
    *(None, 1, 1.5, "1", True, Path("a"), (), (1,), (1, 2), (0.5, 1.0), ("a",)),
    *((("a",), ("b", "c")), [1], ["a"], {}, {"a": 1}, {"a": "b"}),
]


@pytest.fixture(scope="module")
def slow():
    """tyro's own answer, by typeguard."""
    function = tyro._resolver.is_instance
    return getattr(function, "keywords", {}).get("slow", function)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_it_answers_as_typeguard_does(kind, slow):
    answers = [is_of_type(kind, value, slow=slow) for value in VALUES]
    assert answers == [slow(kind, value) for value in VALUES]


def test_all_items_of_a_tuple_count(slow):
    """typeguard looks at the first item alone, unless it is told otherwise."""
    assert not is_of_type(tuple[int, ...], (1, "a"), slow=slow)
    assert not is_of_type(tuple[tuple[str, ...], ...], (("a",), (1,)), slow=slow)


def test_other_versions_of_tyro_go_on_asking_typeguard(monkeypatch):
    monkeypatch.setattr(tyro, "_resolver", SimpleNamespace())
    answer_without_typeguard.__wrapped__()
    assert not hasattr(tyro._resolver, "is_instance")
    assert default_types.is_of_type(int | None, None, slow=lambda kind, value: False)
