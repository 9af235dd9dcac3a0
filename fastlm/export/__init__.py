"""Export models and tokenizers to other programs."""

from typing import TYPE_CHECKING

from fastlm.lazy import lazy_names

if TYPE_CHECKING:
    from fastlm.export.targets import export_hugging_face as export_hugging_face
    from fastlm.export.targets import export_tiktoken as export_tiktoken

__getattr__ = lazy_names(__name__, {"export_hugging_face": "targets", "export_tiktoken": "targets"})
