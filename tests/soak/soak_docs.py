"""The code of the documentation's pages that takes long: `make soak`."""

import pytest
from shown_code import LONG, WITH_CODE, check_code_of_page, make_files


@pytest.mark.parametrize(
    "page", [page for page in WITH_CODE if page.name in LONG], ids=lambda page: page.name
)
def test_code_of_the_documentation_runs_in_its_order(page, tmp_path, monkeypatch):
    """test_readme.py runs that of the other pages."""
    make_files(tmp_path)
    check_code_of_page(page, tmp_path, monkeypatch)
