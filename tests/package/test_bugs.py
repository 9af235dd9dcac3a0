"""The bugs that `make soak` puts into copies of the project can still be put in."""

import pytest
from bugs import KERNEL_BUGS, RUN_BUGS
from mutations import ROOT


@pytest.mark.parametrize(
    "bug", [*RUN_BUGS.values(), *KERNEL_BUGS.values()], ids=[*RUN_BUGS, *KERNEL_BUGS]
)
def test_what_a_bug_changes_is_there_and_so_are_the_tests_that_see_it(bug):
    assert bug.old in (ROOT / bug.file).read_text(encoding="utf-8")
    assert bug.new not in ("", bug.old)
    assert (ROOT / bug.tests.split()[0]).is_file()
