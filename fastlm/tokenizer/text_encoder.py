"""Encoders of texts: by kernels alone where texts are taken as they are, else after their rules.

`tokenizers` finds added tokens first, brings the text between them to its normal form, finds the
added tokens that are marked as normalized in that, and cuts the rest into pre-tokens. So does
RuledEncoder.
"""

from __future__ import annotations

import functools
import operator
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from fastlm.lazy import numpy as np
from fastlm.tokenizer.bpe.errors import InvalidUtf8, UnknownByte, plain_str
from fastlm.tokenizer.bpe.lazy_encoder import LazyEncoder
from fastlm.tokenizer.bpe.small import NO_TOKEN
from fastlm.tokenizer.bpe.word_rules import WordRules
from fastlm.tokenizer.rules import UNICODE_FORMS, AddedToken, Rules
from fastlm.tokenizer.tables import Tables

if TYPE_CHECKING:
    from jaxtyping import Int64, UInt

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]


class TextEncoder(Protocol):
    """An object that encodes texts, as LazyEncoder does."""

    def encode_to_list(self, text: str) -> list[int]: ...
    def encode_texts(
        self, texts: Sequence[str]
    ) -> tuple[UInt[np.ndarray, " n_tokens"], Int64[np.ndarray, " n_texts_plus_1"]]: ...
    def encode_texts_to_lists(self, texts: Sequence[str]) -> list[list[int]]: ...
    def count(self, text: str) -> int: ...
    def encode_text(self, text: str) -> UInt[np.ndarray, " n_tokens"]: ...
    def encode(
        self,
        data: bytes,
        bounds: Int64[np.ndarray, " n_documents_plus_1"] | None = None,
        end_of_text: int = NO_TOKEN,
    ) -> UInt[np.ndarray, " n_tokens"]: ...


def make_encoder(tables: Tables, special_tokens: Mapping[str, int], dtype: str) -> TextEncoder:
    """Make the encoder of a tokenizer.

    Args:
        special_tokens: the ids of the tokens to find in texts.
        dtype: "uint16" or "uint32": that of ids in arrays.
    """
    text, ends, merges, _, rules = tables
    byte_ids = [NO_TOKEN] * 256
    for token_id in _ids_of_bytes(ends):
        byte_ids[text[ends[token_id]]] = token_id
    words = WordRules(rules.pattern, _whole_words(tables), rules.merges_by_rank)

    def make(found: Mapping[str, int]) -> LazyEncoder:
        return LazyEncoder(byte_ids, merges, found, dtype, words)

    if rules.has_plain_texts:
        return make(special_tokens)
    return RuledEncoder(rules, special_tokens, dtype, make)


def _ids_of_bytes(ends: Sequence[int]) -> Iterable[int]:
    """Ids of the tokens of one byte: in most vocabularies these are the first."""
    if len(ends) > 256 and ends[256] == 256:
        return range(256)
    lengths = map(operator.sub, ends[1:], ends)
    return [token_id for token_id, length in enumerate(lengths) if length == 1]


def _whole_words(tables: Tables) -> Mapping[bytes, int]:
    if not tables.rules.ignore_merges:
        return {}
    special = set(tables.special_ids)
    return {t: i for i, t in enumerate(tables.tokens()) if i not in special}


class RuledEncoder:
    """Encoder of texts that are normalized, or hold added tokens with rules of their own.

    Args:
        special_tokens: the ids of the tokens to find in texts.
        make: makes the encoder of pieces of texts that finds the given tokens.
    """

    def __init__(
        self,
        rules: Rules,
        special_tokens: Mapping[str, int],
        dtype: str,
        make: Callable[[Mapping[str, int]], LazyEncoder],
    ) -> None:
        self._rules = rules
        self._dtype = dtype
        self._pieces = make({})
        told = {token.content: token for token in rules.added}
        added = [told.get(token, AddedToken(token)) for token in special_tokens]
        self._first = _Finder([token for token in added if not token.normalized], special_tokens)
        later = {self._normalize(t.content): t for t in added if t.normalized}
        later_ids = {text: special_tokens[token.content] for text, token in later.items()}
        self._later = _Finder(
            [token._replace(content=text) for text, token in later.items()], later_ids
        )
        plain = not any(token.has_rules for token in added)
        forms = [step[0] for step in rules.normalizer]
        # Where a text has its normal form already, which is quick to find out, nothing is to be
        # done before the kernels.
        self._form = cast(Form, forms[0]) if len(forms) == 1 and forms[0] in UNICODE_FORMS else None
        self._whole = make(special_tokens) if plain and self._form else None

    def encode_to_list(self, text: str) -> list[int]:
        """Encode a text to a list of token ids; raises what LazyEncoder.encode_to_list raises."""
        text = plain_str(text)
        if self._whole is not None and self._is_normalized(text):
            return self._whole.encode_to_list(text)
        ids: list[int] = []
        n_before = 0
        for piece, token_id in self._first.split(text):
            if token_id is not None:
                ids.append(token_id)
            else:
                self._encode_piece(piece, n_before, ids)
            n_before += len(piece.encode())
        return ids

    def encode_texts(
        self, texts: Sequence[str]
    ) -> tuple[UInt[np.ndarray, " n_tokens"], Int64[np.ndarray, " n_texts_plus_1"]]:
        """Encode texts, like LazyEncoder.encode_texts."""
        if self._whole is not None and all(map(self._is_normalized, texts)):
            return self._whole.encode_texts(texts)
        rows = list(map(self.encode_text, texts))
        offsets = np.fromiter(accumulate(map(len, rows), initial=0), np.int64, len(rows) + 1)
        return np.concatenate(rows), offsets

    def encode_texts_to_lists(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode texts, like LazyEncoder.encode_texts_to_lists."""
        if self._whole is not None and all(map(self._is_normalized, texts)):
            return self._whole.encode_texts_to_lists(texts)
        return list(map(self.encode_to_list, texts))

    def count(self, text: str) -> int:
        """Return the number of token ids of a text; raises what encode_to_list raises."""
        text = plain_str(text)
        if self._whole is not None and self._is_normalized(text):
            return self._whole.count(text)
        return len(self.encode_to_list(text))

    def _encode_piece(self, piece: str, n_before: int, ids: list[int]) -> None:
        """Append the ids of a piece, before which the text has n_before bytes."""
        for part, token_id in self._later.split(self._normalize(piece)):
            if token_id is not None:
                ids.append(token_id)
            else:
                try:
                    ids += self._pieces.encode_to_list(part)
                except UnknownByte as error:
                    error.shift(n_before)
                    raise
            n_before += len(part.encode())

    def encode_text(self, text: str) -> UInt[np.ndarray, " n_tokens"]:
        """Encode a text to an array of token ids; raises what encode_to_list raises."""
        if self._whole is not None and self._is_normalized(plain_str(text)):
            return self._whole.encode_text(text)
        return np.array(self.encode_to_list(text), self._dtype)

    def encode(
        self,
        data: bytes,
        bounds: Int64[np.ndarray, " n_documents_plus_1"] | None = None,
        end_of_text: int = NO_TOKEN,
    ) -> UInt[np.ndarray, " n_tokens"]:
        """Encode UTF-8 text, like LazyEncoder.encode."""
        if self._whole is not None and data.isascii():
            return self._whole.encode(data, bounds, end_of_text)
        ids: list[UInt[np.ndarray, " n_tokens"]] = []
        end = np.array([] if end_of_text == NO_TOKEN else [end_of_text], self._dtype)
        for first, last in pairwise([0, len(data)] if bounds is None else bounds.tolist()):
            try:
                text = data[first:last].decode()
            except UnicodeDecodeError as error:
                raise InvalidUtf8(first + error.start) from None
            try:
                ids += (self.encode_text(text), end)
            except UnknownByte as error:
                error.shift(first)
                raise
        return np.concatenate(ids) if ids else end[:0]

    def _is_normalized(self, text: str) -> bool:
        return text.isascii() or unicodedata.is_normalized(self._form or "NFC", text)

    def _normalize(self, text: str) -> str:
        for kind, *how in self._rules.normalizer:
            if kind in UNICODE_FORMS:
                text = unicodedata.normalize(cast(Form, kind), text)
            elif kind == "prepend":
                text = how[0] + text if text else text
            elif how[2] == "text":
                text = text.replace(how[0], how[1])
            else:
                from fastlm.tokenizer.bpe.by_regex import compile_expression

                text = compile_expression(how[0]).sub(how[1].replace("\\", r"\\"), text)
        return text


class _Finder:
    """Finds added tokens in a text, the longest at the leftmost position."""

    def __init__(self, tokens: Sequence[AddedToken], ids: Mapping[str, int]) -> None:
        self._tokens = {token.content: token for token in tokens if token.content}
        self._ids = ids
        longest_first = sorted(self._tokens, key=len, reverse=True)
        self._find = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def split(self, text: str) -> Iterable[tuple[str, int | None]]:
        """Split a text into (piece, None) and (token, its id)."""
        if self._find is None:
            return [(text, None)] if text else []
        return self._split(text, self._find)

    def _split(self, text: str, find: re.Pattern[str]) -> Iterator[tuple[str, int | None]]:
        done = 0
        for found in find.finditer(text):
            token = self._tokens[found.group()]
            begin, end = found.span()
            if token.single_word and (
                _is_word(text[begin - 1 : begin]) or _is_word(text[end : end + 1])
            ):
                continue
            if token.lstrip:
                # Spaces that the token before has taken stay its own.
                begin = max(len(text[:begin].rstrip(_SPACES)), done)
            if token.rstrip:
                end = len(text) - len(text[end:].lstrip(_SPACES))
            if begin >= end:  # all of it is among the spaces that the token before has taken
                continue
            if done < begin:
                yield text[done:begin], None
            yield text[begin:end], self._ids[token.content]
            done = end
        if done < len(text):
            yield text[done:], None


# The characters of \s, of which str.strip would take four more.
_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


@functools.cache
def _word_character() -> Any:
    import regex

    return regex.compile(r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]")


def _is_word(character: str) -> bool:
    return bool(character) and _word_character().match(character) is not None
