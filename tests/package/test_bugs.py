"""The bugs that `make soak` puts into copies of the project can still be put in."""

import re
import shlex

import pytest
from bugs import KERNEL_BUGS, RUN_BUGS
from mutations import ROOT


@pytest.mark.parametrize(
    "bug", [*RUN_BUGS.values(), *KERNEL_BUGS.values()], ids=[*RUN_BUGS, *KERNEL_BUGS]
)
def test_what_a_bug_changes_is_there_and_so_are_the_tests_that_see_it(bug):
    assert bug.old in (ROOT / bug.file).read_text(encoding="utf-8")
    assert bug.new not in ("", bug.old)
    path, *selection = shlex.split(bug.tests)
    text = (ROOT / path).read_text(encoding="utf-8")
    assert selection[:-1] == ["-k"]
    # Words of an alternative are parts of a test's name, but for those that choose its cases.
    for alternative in selection[-1].split(" or "):
        words = alternative.split(" and ")
        assert re.search(rf"def test_\w*{words[0]}", text), alternative
