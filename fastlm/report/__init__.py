"""Show all runs in one page with charts."""

from typing import TYPE_CHECKING

from fastlm.lazy import lazy_names

if TYPE_CHECKING:
    from fastlm.report.page import report_page as report_page
    from fastlm.report.page import write_report as write_report

__getattr__ = lazy_names(__name__, {"report_page": "page", "write_report": "page"})
