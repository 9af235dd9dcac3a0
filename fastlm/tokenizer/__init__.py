"""Byte-level BPE tokenizer: train, encode, decode, save, load.

>>> vocab, merges = train_bpe("stories.txt", 10_000, ["<|endoftext|>"])
>>> tokenizer = Tokenizer(vocab, merges, ["<|endoftext|>"])
>>> tokenizer.decode(tokenizer.encode("Once upon a time"))
'Once upon a time'
"""

from typing import TYPE_CHECKING

from fastlm.lazy import lazy_names

if TYPE_CHECKING:
    from fastlm.tokenizer.tokenizer import END_OF_TEXT as END_OF_TEXT
    from fastlm.tokenizer.tokenizer import Tokenizer as Tokenizer
    from fastlm.tokenizer.training import train_bpe as train_bpe
    from fastlm.tokenizer.training import train_bpe_from_documents as train_bpe_from_documents
    from fastlm.tokenizer.transformers_tokenizer import (
        TransformersTokenizer as TransformersTokenizer,
    )

__getattr__ = lazy_names(
    __name__,
    {
        "END_OF_TEXT": "tokenizer",
        "Tokenizer": "tokenizer",
        "TransformersTokenizer": "transformers_tokenizer",
        "train_bpe": "training",
        "train_bpe_from_documents": "training",
    },
)
