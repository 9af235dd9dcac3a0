"""Turn text into token files, and token files into batches."""

from typing import TYPE_CHECKING

from fastlm.lazy import lazy_names

if TYPE_CHECKING:
    from fastlm.data.prepared import END_OF_TEXT as END_OF_TEXT
    from fastlm.data.prepared import PreparedData as PreparedData
    from fastlm.data.prepared import Split as Split
    from fastlm.data.prepared import open_prepared as open_prepared
    from fastlm.data.preparing import prepare as prepare
    from fastlm.data.windows import get_batch as get_batch

__getattr__ = lazy_names(
    __name__,
    {
        "END_OF_TEXT": "prepared",
        "PreparedData": "prepared",
        "Split": "prepared",
        "get_batch": "windows",
        "open_prepared": "prepared",
        "prepare": "preparing",
    },
)
