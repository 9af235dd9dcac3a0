"""Documents cut into pieces that can be tokenized independently."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

from fastlm.corpus.documents import Piece
from fastlm.files.utf8 import to_utf8
from fastlm.tokenizer.bpe.blocks import BLOCK_BYTES, cut_blocks
from fastlm.tokenizer.bpe.patterns import Cuts


def cut_pieces(
    pieces: Iterable[Piece], special_tokens: Sequence[str], cuts: Cuts = "spaces"
) -> Iterator[Piece]:
    """Cut pieces of documents so that they can be tokenized independently.

    A piece without a position to cut grows until it has one.
    """
    special = [token.encode() for token in special_tokens]
    pieces = iter(pieces)
    for text, is_end in pieces:
        if is_end:
            yield text, True
            continue
        rest = itertools.chain([text], _rest_of_document(pieces))
        for block in cut_blocks(map(to_utf8, rest), special, n_bytes=BLOCK_BYTES, cuts=cuts):
            yield block.decode(), False
        yield "", True


def _rest_of_document(pieces: Iterator[Piece]) -> Iterator[str]:
    for text, is_end in pieces:
        yield text
        if is_end:
            return
