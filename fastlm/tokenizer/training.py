"""Learn a vocabulary from text files or documents."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from fastlm.corpus.documents import Errors, iter_pieces
from fastlm.corpus.text_files import is_plain
from fastlm.files.paths import StrPath, check_file, check_unchanged, identify
from fastlm.tokenizer.bpe.blocks import Loadable, document_blocks
from fastlm.tokenizer.bpe.errors import check_integer
from fastlm.tokenizer.bpe.learn import Merges, Vocab, learn_vocabulary
from fastlm.tokenizer.bpe.patterns import find_pattern
from fastlm.tokenizer.formats.gpt2 import is_printed_byte
from fastlm.tokenizer.given_texts import check_several, each_as_utf8
from fastlm.tokenizer.pieces import cut_pieces
from fastlm.tokenizer.special_tokens import check_special
from fastlm.tokenizer.text_blocks import sample_stripes, stripe_blocks, text_file_blocks

if TYPE_CHECKING:
    from fastlm.cli.progress import Progress


def train_bpe(
    input_path: StrPath | Sequence[StrPath],
    vocab_size: int,
    special_tokens: Sequence[str],
    *,
    n_threads: int | None = None,
    errors: Errors = "strict",
    on_progress: Progress | None = None,
    max_token_bytes: int | None = None,
    sample_bytes: int | None = None,
    text_field: str = "text",
    pattern: str = "gpt2",
) -> tuple[Vocab, Merges]:
    """Learn a vocabulary from UTF-8 text files: 256 bytes, merges, special tokens.

    Memory grows with the number of distinct words, not with the files. Of .jsonl, .parquet and
    compressed files the documents are read; then no merge crosses two of them.

    Args:
        input_path: one file or several.
        special_tokens: tokens that split the text and are not counted; they get the last ids.
        n_threads: None uses all cores.
        errors: "strict" refuses invalid UTF-8, "replace" reads it as U+FFFD.
        on_progress: called with ("bytes", number read so far), then with ("merges", number learned
            so far); before them with ("total", bytes to read) if sample_bytes leaves out text.
        max_token_bytes: greatest length of a learned token; None sets no limit.
        sample_bytes: size of the sample to read if the files hold more: evenly spaced stripes of up
            to 1 MiB, from each file in proportion to its size; None reads all.
        text_field: field of .jsonl files and column of .parquet files that holds the text.
        pattern: name of the pattern of pre-tokens (Tokenizer), or a regular expression; give the
            same to Tokenizer.
    Raises:
        FileNotFoundError: if a file is missing.
        TypeError: if a number is no integer, or a special token no str.
        ValueError: if vocab_size is too small for the bytes and the special tokens, or the files
            hold no text, are not UTF-8 or change while they are read.
    """
    words_like = find_pattern(pattern)
    paths = [input_path] if isinstance(input_path, (str, os.PathLike)) else list(input_path)
    special_bytes = _check_training(vocab_size, special_tokens, max_token_bytes)
    if not paths:
        raise ValueError("input_path must name at least one text file: got none")
    for path in paths:
        check_file(path)
    if sample_bytes is not None:
        check_integer("sample_bytes", sample_bytes)
    if sample_bytes is not None and sample_bytes < 1:
        raise ValueError(f"sample_bytes must be at least 1: got {sample_bytes}")
    if not all(map(is_plain, paths)):
        if sample_bytes is not None:
            raise ValueError("a sample is taken from plain text files: unpack the texts first")
        # <|endoftext|> in a text separates words as well as it separates documents.
        pieces = iter_pieces(paths, errors=errors, text_field=text_field, allow_end_of_text=True)
        return train_bpe_from_documents(
            (text for text, _ in cut_pieces(pieces, special_tokens, words_like.cuts)),
            vocab_size,
            special_tokens,
            n_threads=n_threads,
            on_progress=on_progress,
            max_token_bytes=max_token_bytes,
            pattern=pattern,
        )
    source = ", ".join(map(str, paths))
    seen = [identify(path) for path in paths]
    blocks: Iterator[Loadable]
    if sample_bytes is None or sum(os.stat(path).st_size for path in paths) <= sample_bytes:
        blocks = (
            block
            for path in paths
            for block in text_file_blocks(path, special_bytes, errors, cuts=words_like.cuts)
        )
    else:
        stripes = sample_stripes(paths, sample_bytes)
        blocks = stripe_blocks(stripes, special_bytes, errors, words_like.cuts)
        source = f"a sample of {sample_bytes} bytes of {source}"
        if on_progress is not None:
            on_progress("total", sum(stripe.end - stripe.begin for stripe in stripes))
    learned = learn_vocabulary(
        blocks,
        vocab_size,
        special_bytes,
        n_threads=n_threads,
        on_progress=on_progress,
        source=source,
        max_token_bytes=max_token_bytes,
        pattern=words_like,
    )
    for path, before in zip(paths, seen, strict=True):
        check_unchanged(path, before)
    return learned


def train_bpe_from_documents(
    documents: Iterable[str],
    vocab_size: int,
    special_tokens: Sequence[str],
    *,
    n_threads: int | None = None,
    on_progress: Progress | None = None,
    max_token_bytes: int | None = None,
    pattern: str = "gpt2",
) -> tuple[Vocab, Merges]:
    """Learn a vocabulary from documents, like train_bpe; no merge crosses two documents.

    Raises:
        TypeError: if a document is no str, or documents is one itself, a set or a mapping.
        ValueError: as train_bpe does.
    """
    check_several(documents)
    words_like = find_pattern(pattern)
    special_bytes = _check_training(vocab_size, special_tokens, max_token_bytes)
    return learn_vocabulary(
        document_blocks(each_as_utf8(documents)),
        vocab_size,
        special_bytes,
        n_threads=n_threads,
        on_progress=on_progress,
        source="the documents",
        max_token_bytes=max_token_bytes,
        pattern=words_like,
    )


def _check_training(
    vocab_size: int, special_tokens: Sequence[str], max_token_bytes: int | None
) -> list[bytes]:
    special_bytes = [token.encode() for token in check_special(special_tokens)]
    least = 256 + len(special_bytes)
    check_integer("vocab_size", vocab_size)
    if vocab_size < least:
        raise ValueError(
            f"vocab_size must be at least {least}, for 256 bytes and {len(special_bytes)} special "
            f"tokens: got {vocab_size}"
        )
    for token in special_bytes:
        if len(token) == 1:
            raise ValueError(
                f"special token {token.decode()!r} is a single byte, which the vocabulary has "
                "already; give it a longer name"
            )
    for text in special_tokens:
        if len(text) == 1 and is_printed_byte(text):
            raise ValueError(
                f"special token {text!r} is how vocab.json writes a single byte; give it a longer "
                "name"
            )
    if max_token_bytes is not None:
        check_integer("max_token_bytes", max_token_bytes)
    if max_token_bytes is not None and max_token_bytes < 2:
        raise ValueError(
            f"max_token_bytes must be at least 2, the size of a first merge: got {max_token_bytes}"
        )
    return special_bytes
