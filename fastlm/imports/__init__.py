"""Import models, tokenizers and token files of other programs."""

from typing import TYPE_CHECKING

from fastlm.lazy import lazy_names

if TYPE_CHECKING:
    from fastlm.imports.foreign_tokens import import_tokens as import_tokens
    from fastlm.imports.take_over import import_model as import_model

__getattr__ = lazy_names(__name__, {"import_model": "take_over", "import_tokens": "foreign_tokens"})
