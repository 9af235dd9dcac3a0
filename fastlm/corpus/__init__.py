"""Training text: reading documents, generating stories and downloading data sets."""

from typing import TYPE_CHECKING

from fastlm.lazy import lazy_names

if TYPE_CHECKING:
    from fastlm.corpus.documents import iter_documents as iter_documents
    from fastlm.corpus.generated import make_stories as make_stories

__getattr__ = lazy_names(__name__, {"iter_documents": "documents", "make_stories": "generated"})
