"""The methods of a Tokenizer that have tiktoken's names, and give what tiktoken gives."""

from collections.abc import Iterable
from typing import Any, Protocol

from fastlm.corpus.documents import END_OF_TEXT
from fastlm.tokenizer.bpe.errors import UnknownToken, check_integer, refuse_unordered
from fastlm.tokenizer.bpe.token_bytes import TokenBytes
from fastlm.tokenizer.given_texts import check_text
from fastlm.tokenizer.text_encoder import TextEncoder


class _Tokenizer(Protocol):
    """The parts of a Tokenizer that these methods use."""

    special_tokens: dict[str, int]
    _token_bytes: TokenBytes
    _special_ids: frozenset[int]

    @property
    def _ordinary_encoder(self) -> TextEncoder: ...
    @property
    def vocab_size(self) -> int: ...
    def token_to_id(self, token: str | bytes) -> int: ...
    def encode_batch(
        self, texts: Iterable[str], *, n_threads: int | None = ..., allowed_special: Any = ...
    ) -> list[list[int]]: ...
    def decode_bytes(self, ids: Iterable[int]) -> bytes: ...


class TiktokenNames:
    """Methods by tiktoken's names. Those of a token or id raise UnknownToken, also a KeyError."""

    def encode_ordinary(self: _Tokenizer, text: str) -> list[int]:
        """Encode a text in which special tokens are plain text."""
        try:
            return self._ordinary_encoder.encode_to_list(text)
        except UnicodeEncodeError:
            check_text(text)
            raise

    def encode_ordinary_batch(
        self: _Tokenizer, text: Iterable[str], *, num_threads: int | None = None
    ) -> list[list[int]]:
        """Encode texts in which special tokens are plain text; num_threads None uses all cores."""
        return self.encode_batch(text, n_threads=num_threads, allowed_special=())

    def encode_single_token(self: _Tokenizer, text_or_bytes: str | bytes) -> int:
        """Return the id of a token, which may be a special token."""
        return self.token_to_id(text_or_bytes)

    def decode_single_token_bytes(self: _Tokenizer, token: int) -> bytes:
        """Return the bytes of a token, which may be a special token."""
        return self._token_bytes.of_ids([token])[0]

    def decode_tokens_bytes(self: _Tokenizer, tokens: Iterable[int]) -> list[bytes]:
        """Return the bytes of each token."""
        return self._token_bytes.of_ids(tokens)

    def decode_bytes_batch(self: _Tokenizer, batch: Iterable[Iterable[int]]) -> list[bytes]:
        """Decode several rows of ids to bytes."""
        refuse_unordered(batch, "several rows of token ids")
        return [self.decode_bytes(ids) for ids in batch]

    def token_byte_values(self: _Tokenizer) -> list[bytes]:
        """Return the bytes of all tokens but the special ones, sorted."""
        tokens = self._token_bytes.of_id.items()
        return sorted(token for token_id, token in tokens if token_id not in self._special_ids)

    def is_special_token(self: _Tokenizer, token: int) -> bool:
        """Return whether an id is a special token's."""
        return check_integer("token", token) in self._special_ids

    @property
    def special_tokens_set(self: _Tokenizer) -> set[str]:
        """The special tokens as text."""
        return set(self.special_tokens)

    @property
    def eot_token(self: _Tokenizer) -> int:
        """Id of <|endoftext|>."""
        if END_OF_TEXT not in self.special_tokens:
            raise UnknownToken(f"the tokenizer has no special token {END_OF_TEXT}")
        return self.special_tokens[END_OF_TEXT]

    @property
    def n_vocab(self: _Tokenizer) -> int:
        """Number of tokens, vocab_size."""
        return self.vocab_size

    @property
    def max_token_value(self: _Tokenizer) -> int:
        """The greatest id, vocab_size - 1."""
        return self.vocab_size - 1
