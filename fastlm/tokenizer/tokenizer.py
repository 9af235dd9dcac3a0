"""Byte-level BPE tokenizer: train, encode, decode, save, load. `python -m fastlm.tokenizer`.

>>> vocab, merges = train_bpe("stories.txt", 10_000, ["<|endoftext|>"])
>>> tokenizer = Tokenizer(vocab, merges, ["<|endoftext|>"])
>>> tokenizer.decode(tokenizer.encode("Once upon a time"))
'Once upon a time'

Compiled code (fastlm.tokenizer.bpe) is imported when first used, so that importing this file stays
fast.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastlm.corpus.documents import END_OF_TEXT as END_OF_TEXT
from fastlm.files.paths import StrPath
from fastlm.files.utf8 import to_utf8
from fastlm.lazy import numpy as np
from fastlm.tokenizer.bpe.blocks import (
    Loadable,
    cut_blocks,
    document_blocks,
    map_blocks,
)
from fastlm.tokenizer.bpe.errors import BadByte, UnknownToken, plain_str, refuse_unordered
from fastlm.tokenizer.bpe.patterns import Cuts, find_pattern
from fastlm.tokenizer.bpe.token_bytes import TokenBytes
from fastlm.tokenizer.folder import read_tokenizer, read_vocab_and_merges, write_tokenizer
from fastlm.tokenizer.given_texts import check_several, check_text, each_as_utf8
from fastlm.tokenizer.offsets import decode_strictly, token_spans
from fastlm.tokenizer.rules import Rules
from fastlm.tokenizer.special_tokens import Choice, SpecialUse, choose_special, refuse_special
from fastlm.tokenizer.stream_decoder import DecodeErrors, StreamDecoder, check_errors
from fastlm.tokenizer.tables import Tables, hash_tables, make_tables
from fastlm.tokenizer.text_batches import (
    Side,
    Truncate,
    count_each,
    dtype_for,
    encode_flat,
    encode_to_lists,
    pad_batch,
    put_around,
)
from fastlm.tokenizer.text_blocks import JsonTexts, file_blocks
from fastlm.tokenizer.text_encoder import TextEncoder, make_encoder
from fastlm.tokenizer.tiktoken_names import TiktokenNames

if TYPE_CHECKING:
    from jaxtyping import Bool, Int64, Integer, UInt

    from fastlm.cli.progress import Progress
    from fastlm.tokenizer.training import train_bpe as train_bpe
    from fastlm.tokenizer.training import train_bpe_from_documents as train_bpe_from_documents


def __getattr__(name: str) -> Any:
    """Import what trains when it is asked for here."""
    if name not in ("train_bpe", "train_bpe_from_documents"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fastlm.tokenizer import training

    return getattr(training, name)


_STREAM_BYTES = 1 << 16  # blocks of encode_iterable; the first are smaller, so that ids come early
_FIRST_STREAM_BYTES = 1 << 10
_SHOWN = 3  # special tokens that repr shows


def _as_block(block: Loadable) -> Loadable:
    if not hasattr(block, "load"):
        raise TypeError(
            f"expected blocks of text, got {type(block).__name__}: encode_documents takes texts"
        )
    return block


class Tokenizer(TiktokenNames):
    """Encodes text to token ids and decodes token ids to text.

    allowed_special, "all" or a set, says which special tokens in a text become their ids; the
    others are plain text. disallowed_special says which special tokens a text must not hold: a set,
    or "all" for all that are not allowed.

    Attributes:
        vocab: id -> bytes, ids 0 to vocab_size - 1; special tokens included.
        merges: pairs of byte strings, in the order learned.
        special_tokens: text -> id.
        pattern: name or expression of the pattern that cuts texts into pre-tokens.

    >>> tokenizer = Tokenizer.load("runs/stories/tokenizer")
    >>> tokenizer.encode("Once upon a time<|endoftext|>")
    [430, 439, 259, 397, 9999]
    """

    def __init__(
        self,
        vocab: dict[int, bytes],
        merges: Sequence[tuple[bytes, bytes]],
        special_tokens: Sequence[str] | None = None,
        pattern: str = "gpt2",
    ) -> None:
        """Make a tokenizer; special tokens outside the vocabulary get the next ids, in order.

        Args:
            pattern: how a text is cut into pre-tokens, which no merge crosses: gpt2, cl100k, o200k,
                llama3, qwen2, nanochat, smollm, deepseek, or a regular expression of the package
                `regex`, whose matches and the gaps between them are the pre-tokens. Use the one
                that the vocabulary was learned with.
        Raises:
            ValueError: if ids are not 0 to n - 1, a token is empty or occurs twice, or the parts or
                the result of a merge are not in the vocabulary.
        """
        rules = Rules(find_pattern(pattern))
        self._set_tables(make_tables(vocab, merges, special_tokens or (), rules))

    def _set_tables(self, tables: Tables) -> None:
        self._tables = tables
        self._token_bytes = TokenBytes(tables.text, tables.ends)
        self._encoders: dict[frozenset[str], TextEncoder] = {}
        text, bounds = tables.text, tables.ends
        self.special_tokens: dict[str, int] = {
            text[bounds[token_id] : bounds[token_id + 1]].decode(): token_id
            for token_id in tables.special_ids
        }
        self._always_found = frozenset(t.content for t in tables.rules.added if not t.special)
        self._choosable = {
            token: i for token, i in self.special_tokens.items() if token not in self._always_found
        }
        self._special_ids = frozenset(self._choosable.values())

    @classmethod
    def _from_tables(cls, tables: Tables, tokenizer_hash: str | None = None) -> "Tokenizer":
        tokenizer = cls.__new__(cls)
        tokenizer._set_tables(tables)
        if tokenizer_hash is not None:
            tokenizer.hash = tokenizer_hash
        return tokenizer

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokenizer._from_tables, (self._tables,)

    @classmethod
    def from_files(
        cls,
        vocab_path: StrPath,
        merges_path: StrPath,
        special_tokens: Sequence[str] | None = None,
        pattern: str = "gpt2",
    ) -> "Tokenizer":
        """Read vocab.json and merges.txt in GPT-2's format; only special_tokens are special.

        Args:
            pattern: how a text is cut into pre-tokens, as in Tokenizer(); the files do not say it.
        Raises:
            FileNotFoundError, ValueError: with the file and its fault.
        """
        rules = Rules(find_pattern(pattern))
        return cls._from_tables(
            read_vocab_and_merges(vocab_path, merges_path, special_tokens or (), rules)
        )

    @classmethod
    def load(cls, path: StrPath) -> "Tokenizer":
        """Read a folder that save wrote, one with GPT-2's two files, a tokenizer.json, or ranks.

        GPT-2's files (vocab.json and merges.txt, or encoder.json and vocab.bpe) do not say which
        tokens are special: those in angle brackets that no merge makes are taken as special. A
        tokenizer.json of Hugging Face that would give other ids than this class is refused. A rank
        file of tiktoken (NAME.tiktoken or NAME.model) needs a known name, such as cl100k_base, or
        an encoding.json beside it that has its pattern.

        Raises:
            FileNotFoundError, ValueError: with the file and its fault.
        """
        return cls._from_tables(*read_tokenizer(path))

    def save(self, folder: StrPath, *, replace: bool = False, is_locked: bool = False) -> None:
        """Write vocab.json, merges.txt, special_tokens.json, tokenizer.json and tables.npz.

        A tokenizer with other rules than GPT-2's has rules.json too. `tokenizers` reads
        tokenizer.json; tables.npz only makes load quick. When it is broken off,
        the folder holds this tokenizer or the one that was there before. Other files in the folder
        stay.

        Args:
            replace: replace the files of another tokenizer.
            is_locked: the caller holds fastlm.files.disk.locked(folder).
        Raises:
            FileExistsError: if there are such files and replace is not given.
        """
        write_tokenizer(
            folder,
            self.vocab,
            self.merges,
            self.special_tokens,
            self._tables,
            self.hash,
            replace=replace,
            is_locked=is_locked,
        )

    @functools.cached_property
    def vocab(self) -> dict[int, bytes]:
        return dict(self._token_bytes.of_id)

    @functools.cached_property
    def merges(self) -> list[tuple[bytes, bytes]]:
        tokens = self._tables.tokens()
        pairs = zip(self._tables.rows[::3], self._tables.rows[1::3], strict=True)
        return [(tokens[left], tokens[right]) for left, right in pairs]

    @functools.cached_property
    def _ids(self) -> dict[bytes, int]:
        return {token: token_id for token_id, token in self.vocab.items()}

    @property
    def vocab_size(self) -> int:
        """Number of tokens; special tokens included."""
        return len(self._tables.ends) - 1

    def __len__(self) -> int:
        return self.vocab_size

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        special = ", ".join(map(repr, list(self.special_tokens)[:_SHOWN]))
        special += f", and {len(self.special_tokens) - _SHOWN} more" * (
            len(self.special_tokens) > _SHOWN
        )
        return (
            f"Tokenizer(vocab_size={self.vocab_size}, special_tokens=[{special}], "
            f"hash={self.hash[:12]!r})"
        )

    def __eq__(self, other: object) -> bool:
        """Return whether both give the same ids for all texts, and the same bytes for all ids."""
        return self.hash == other.hash if isinstance(other, Tokenizer) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.hash)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of ids in arrays and token files: uint16 if vocab_size <= 65,536, else uint32."""
        return np.dtype(self._dtype_name)

    @property
    def _dtype_name(self) -> str:
        return "uint16" if self.vocab_size <= 1 << 16 else "uint32"

    @property
    def pattern(self) -> str:
        """The name of the pattern of pre-tokens, or else its expression or its steps as JSON."""
        return self._tables.rules.pattern.spelled

    @property
    def rules(self) -> Rules:
        """The pattern, and everything else that determines ids besides vocabulary and merges."""
        return self._tables.rules

    @property
    def cuts(self) -> Cuts:
        """Where a text may be cut without another id, in the words of bpe/blocks.py."""
        return self._tables.rules.cuts

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256, in hex, of everything that determines ids; equal for equal tokenizers."""
        return hash_tables(self._tables)

    def token_to_id(self, token: str | bytes) -> int:
        """Return the id of a token, which may be a special token.

        Raises:
            TypeError: if it is neither str nor bytes.
            UnknownToken: a ValueError, if it is not in the vocabulary.
        """
        if not isinstance(token, (str, bytes)):
            raise TypeError(f"expected a token as str or bytes, got {type(token).__name__}")
        if token in self.special_tokens:
            return self.special_tokens[str(token)]
        spelled = to_utf8(token) if isinstance(token, str) else token
        if spelled not in self._ids:
            raise UnknownToken(f"{token!r} is not one of the {self.vocab_size} tokens")
        return self._ids[spelled]

    def _encoder_of(self, allowed: frozenset[str]) -> TextEncoder:
        if allowed not in self._encoders:
            allowed_or_added = allowed | self._always_found
            special = {t: i for t, i in self.special_tokens.items() if t in allowed_or_added}
            self._encoders[allowed] = make_encoder(self._tables, special, self._dtype_name)
        return self._encoders[allowed]

    @functools.cached_property
    def _encoder(self) -> TextEncoder:
        return self._encoder_of(frozenset(self.special_tokens))

    @functools.cached_property
    def _ordinary_encoder(self) -> TextEncoder:
        return self._encoder_of(frozenset())

    def encode(
        self,
        text: str,
        *,
        allowed_special: Choice = "all",
        disallowed_special: Choice = (),
        add_special_tokens: bool = False,
    ) -> list[int]:
        """Encode a text to a list of token ids; allowed special tokens in it become their ids.

        Args:
            add_special_tokens: put the ids around it that the tokenizer.json of a model asks for,
                such as that of the begin of a text.
        Raises:
            TypeError: if the text is no str.
            ValueError: if it holds lone surrogates or a disallowed special token.
        """
        encoder = self._encoder
        if allowed_special != "all" or disallowed_special:
            encoder = self._check_special(text, allowed_special, disallowed_special)
        try:
            ids = encoder.encode_to_list(text)
        except UnicodeEncodeError:
            check_text(text)
            raise
        return self._put_around(ids) if add_special_tokens else ids

    def _put_around(self, ids: list[int]) -> list[int]:
        return [*self.rules.before, *ids, *self.rules.after]

    def encode_to_numpy(
        self,
        text: str | bytes,
        *,
        allowed_special: Choice = "all",
        disallowed_special: Choice = (),
    ) -> UInt[np.ndarray, " n_tokens"]:
        """Encode a text to an array of self.dtype, like encode; bytes must be UTF-8."""
        encoder = self._encoder
        if allowed_special != "all" or disallowed_special:
            encoder = self._check_special(text, allowed_special, disallowed_special)
        if isinstance(text, bytes):
            return encoder.encode(text)
        try:
            return encoder.encode_text(text)
        except UnicodeEncodeError:
            check_text(text)
            raise

    def count(
        self, text: str, *, allowed_special: Choice = "all", disallowed_special: Choice = ()
    ) -> int:
        """Return the number of token ids of a text, len(encode(text)), without making a list."""
        encoder = self._encoder
        if allowed_special != "all" or disallowed_special:
            encoder = self._check_special(text, allowed_special, disallowed_special)
        try:
            return encoder.count(text)
        except UnicodeEncodeError:
            check_text(text)
            raise

    def _check_special(
        self, text: str | bytes, allowed_special: Choice, disallowed_special: Choice
    ) -> TextEncoder:
        """Refuse disallowed special tokens in a text; returns the encoder for the allowed ones."""
        use = choose_special(self._choosable, allowed_special, disallowed_special)
        if use.refused:
            if isinstance(text, bytes):
                characters = text.decode("utf-8", "replace")
            else:
                characters = plain_str(text)
            refuse_special(characters, use.refused)
        return self._encoder_of(use.allowed)

    def encode_with_offsets(
        self, text: str, *, allowed_special: Choice = "all", disallowed_special: Choice = ()
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Encode a text to (ids, spans); a span (begin, end) is in characters.

        begin is the index of the character that holds the first byte of the token, end one past the
        index of the character that holds its last byte. The spans of tokens that share a character
        overlap.

        Raises:
            ValueError: as encode does, or if the tokenizer changes the text before it is cut.
        """
        text = plain_str(text)
        ids = self.encode_to_numpy(
            text, allowed_special=allowed_special, disallowed_special=disallowed_special
        )
        if not self.rules.keeps_texts and self.decode_bytes(ids) != text.encode():
            raise ValueError(
                "the tokens do not have the characters of the text, which this tokenizer changes "
                "before it is cut: there are no spans of them"
            )
        begins, ends = token_spans(text.encode(), np.diff(self._tables.bounds)[ids])
        return ids.tolist(), list(zip(begins.tolist(), ends.tolist(), strict=True))

    def encode_batch(
        self,
        texts: Iterable[str],
        *,
        n_threads: int | None = None,
        allowed_special: Choice = "all",
        disallowed_special: Choice = (),
        add_special_tokens: bool = False,
    ) -> list[list[int]]:
        """Encode texts independently of each other, each like encode.

        Raises:
            TypeError: if one is no str, or texts is one itself, a set or a mapping.
            ValueError: as encode does.
        """
        use = choose_special(self._choosable, allowed_special, disallowed_special)
        encoded = encode_to_lists(self._encoder_of(use.allowed), texts, use, n_threads)
        return list(map(self._put_around, encoded)) if add_special_tokens else encoded

    def count_batch(
        self,
        texts: Iterable[str],
        *,
        n_threads: int | None = None,
        allowed_special: Choice = "all",
        disallowed_special: Choice = (),
    ) -> list[int]:
        """Return the number of token ids of each text; raises what encode_batch raises."""
        use = choose_special(self._choosable, allowed_special, disallowed_special)
        return count_each(self._encoder_of(use.allowed), texts, use, n_threads)

    def encode_batch_flat(
        self,
        texts: Iterable[str],
        *,
        n_threads: int | None = None,
        allowed_special: Choice = "all",
        disallowed_special: Choice = (),
        add_special_tokens: bool = False,
    ) -> tuple[UInt[np.ndarray, " n_tokens"], Int64[np.ndarray, " n_texts_plus_1"]]:
        """Encode texts independently of each other to (ids, offsets), arrays of NumPy.

        The ids of text i are ids[offsets[i] : offsets[i + 1]], of self.dtype. Raises what
        encode_batch raises.
        """
        use = choose_special(self._choosable, allowed_special, disallowed_special)
        ids, offsets = encode_flat(self._encoder_of(use.allowed), texts, use, n_threads)
        if not add_special_tokens:
            return ids, offsets
        return put_around(ids, offsets, self.rules.before, self.rules.after)

    def encode_batch_padded(
        self,
        texts: Iterable[str],
        length: int | None = None,
        *,
        pad_id: int | None = None,
        side: Side = "right",
        truncate: Truncate = "error",
        multiple_of: int = 1,
        dtype: np.dtype[Any] | type | None = None,
        n_threads: int | None = None,
        allowed_special: Choice = "all",
        disallowed_special: Choice = (),
        add_special_tokens: bool = False,
    ) -> tuple[Integer[np.ndarray, "n_texts width"], Bool[np.ndarray, "n_texts width"]]:
        """Encode texts independently of each other to a matrix of ids, one row a text, and a mask.

        Args:
            length: number of columns; None takes that of the longest text.
            pad_id: id that fills the rows, where the mask is False; None takes <|endoftext|>.
            side: the side of the ids on which a row is filled.
            truncate: the side on which a text of more than length ids is cut off; "error" refuses
                it.
            multiple_of: the number of columns is rounded up to a multiple of this.
            add_special_tokens: as in encode; of a text that is cut they stay.
            dtype: dtype of the ids; None takes self.dtype. PyTorch's embeddings take numpy.int64.
        Raises:
            TypeError, ValueError: as encode_batch does, or for arguments out of range.
        """
        if pad_id is None:
            if END_OF_TEXT not in self.special_tokens:
                raise ValueError(f"the tokenizer has no special token {END_OF_TEXT}: give pad_id")
            pad_id = self.eot_token
        self.decode_single_token_bytes(pad_id)  # raises what is wrong with it
        flat = self.encode_batch_flat(
            texts,
            n_threads=n_threads,
            allowed_special=allowed_special,
            disallowed_special=disallowed_special,
        )
        return pad_batch(
            flat,
            length,
            pad_id=pad_id,
            side=side,
            truncate=truncate,
            multiple_of=multiple_of,
            dtype=self.dtype if dtype is None else dtype_for(dtype, self.vocab_size),
            before=self.rules.before if add_special_tokens else (),
            after=self.rules.after if add_special_tokens else (),
        )

    def encode_iterable(
        self,
        iterable: Iterable[str],
        *,
        allowed_special: Choice = "all",
        disallowed_special: Choice = (),
    ) -> Iterator[int]:
        """Encode the concatenation of strings; it does not matter where the strings are cut.

        Ids are yielded lazily, and memory does not grow with the stream: only the text after the
        last position where a pre-token certainly starts is held back.

        Raises:
            TypeError: if one is no str, or iterable is a set or a mapping.
        """
        # This is no generator, so that a wrong argument is refused here and not at the first id.
        use = choose_special(self._choosable, allowed_special, disallowed_special)
        refuse_unordered(iterable, "several texts")
        return self._encode_stream(iterable, use)

    def _encode_stream(self, iterable: Iterable[str], use: SpecialUse) -> Iterator[int]:
        encoder = self._encoder_of(use.allowed)
        special = [token.encode() for token in self.special_tokens]
        n_before = n_bytes_before = 0
        for block in cut_blocks(
            each_as_utf8(iterable),
            special,
            n_bytes=_STREAM_BYTES,
            n_first_bytes=_FIRST_STREAM_BYTES,
            cuts=self.cuts,
        ):
            if use.refused:
                text = block.decode()
                refuse_special(text, use.refused, n_before=n_before)
                n_before += len(text)
            try:
                ids = encoder.encode(block).tolist()
            except BadByte as error:
                error.shift(n_bytes_before)
                raise
            n_bytes_before += len(block)
            yield from ids

    def encode_documents(
        self,
        documents: Iterable[str],
        *,
        end_of_text: str | None = END_OF_TEXT,
        n_threads: int | None = None,
    ) -> Iterator[UInt[np.ndarray, " n_tokens"]]:
        """Encode documents, in order, to arrays that each cover about 2 MB of text.

        Args:
            end_of_text: token to append after each document, or None.
        Raises:
            TypeError: if a document is no str, or documents is one itself, a set or a mapping.
        """
        check_several(documents)
        end_id = -1 if end_of_text is None else self.token_to_id(end_of_text)
        blocks = document_blocks(each_as_utf8(documents))
        return self.encode_blocks(blocks, end_of_text=end_id, n_threads=n_threads)

    def encode_file_blocks(
        self, path: StrPath, *, n_threads: int | None = None, errors: str = "strict"
    ) -> Iterator[UInt[np.ndarray, " n_tokens"]]:
        """Encode a UTF-8 text file, in order, to arrays that each cover a block of it.

        Of a .jsonl file, the fields "text" are encoded, with <|endoftext|> after each.

        Args:
            errors: "strict" refuses invalid UTF-8, "replace" reads it as U+FFFD.
        """
        blocks = file_blocks(path, list(self.special_tokens), errors, cuts=self.cuts)
        return self.encode_blocks(blocks, n_threads=n_threads)

    def encode_file(
        self,
        path: StrPath,
        out: StrPath,
        *,
        n_threads: int | None = None,
        errors: str = "strict",
        resume: bool = True,
        text_field: str = "text",
        allow_end_of_text: bool = False,
        replace: bool = False,
        on_progress: Progress | None = None,
    ) -> int:
        """Encode a UTF-8 text file to out, and write out.json; returns the number of ids.

        out exists only when it is complete: until then the ids are in out.part, and the same call
        continues from there. Ids are little-endian self.dtype.

        Of a .jsonl file, the texts of its lines are encoded, with <|endoftext|> after each: the
        n-th of them ends the text of the n-th line that is not empty.

        Args:
            n_threads: None uses all cores.
            errors: "strict" refuses invalid UTF-8, "replace" reads it as U+FFFD.
            resume: False starts from the beginning.
            text_field: field of a .jsonl file that holds the text.
            allow_end_of_text: <|endoftext|> in such a text is not refused, but gets its id.
            replace: replace an existing out, and out.json.
            on_progress: called with ("bytes", number read so far), first with the number that an
                earlier call has read.
        Raises:
            FileNotFoundError: if the text or the folder of out is missing.
            FileExistsError: if out or out.json exists and replace is not given, or if there is an
                out.part that is not of an earlier call.
            ValueError: if the text is not UTF-8, or changes while it is read. Nothing is left, but
                an out.part with the ids before invalid UTF-8, where errors="replace" continues.
            BlockingIOError: if another process writes to out.
        Warns:
            UserWarning: if there is an out.part of another tokenizer or text.
        """
        from fastlm.tokenizer.token_files import encode_text_file

        return encode_text_file(
            Path(path),
            Path(out),
            self,
            n_threads=n_threads,
            errors=errors,
            resume=resume,
            json=JsonTexts(text_field, allow_end_of_text),
            replace=replace,
            on_progress=on_progress,
        )

    def encode_blocks(
        self, blocks: Iterable[Loadable], *, end_of_text: int = -1, n_threads: int | None = None
    ) -> Generator[UInt[np.ndarray, " n_tokens"], None, None]:
        """Ids of blocks of text, in order, an array each; closed, it begins no more of them.

        Args:
            end_of_text: id put after each document of a block; -1 puts none.
        """
        encoder = self._encoder
        yield from map_blocks(
            lambda text, bounds: encoder.encode(text, bounds, end_of_text),
            map(_as_block, blocks),
            n_threads,
        )

    def decode_bytes(self, ids: Iterable[int], *, skip_special: bool = False) -> bytes:
        """Decode ids to the concatenated bytes of their tokens.

        Args:
            ids: integers, or an array or tensor of them.
            skip_special: leave special tokens out.
        Raises:
            TypeError: if they are no integers, such as booleans, floats and bytes.
            ValueError: if an id is not in the vocabulary, or an array has another shape.
        """
        return self._token_bytes.join(ids, self._special_ids if skip_special else ())

    def decode(
        self, ids: Iterable[int], *, errors: DecodeErrors = "replace", skip_special: bool = False
    ) -> str:
        """Decode ids to text.

        Args:
            errors: "replace" decodes invalid UTF-8 to U+FFFD, "ignore" leaves it out, "strict"
                refuses it.
            skip_special: leave special tokens out.
        Raises:
            TypeError, ValueError: as decode_bytes does, or if errors="strict" meets invalid UTF-8.
        """
        check_errors(errors)
        if errors != "strict":
            return self.decode_bytes(ids, skip_special=skip_special).decode("utf-8", errors)
        left_out = self._special_ids if skip_special else ()
        return decode_strictly(self._token_bytes.of_ids(ids, left_out))

    def decode_batch(
        self,
        batch: Iterable[Iterable[int]],
        *,
        errors: DecodeErrors = "replace",
        skip_special: bool = False,
    ) -> list[str]:
        refuse_unordered(batch, "several rows of token ids")
        return [self.decode(ids, errors=errors, skip_special=skip_special) for ids in batch]

    def stream_decoder(
        self, *, errors: DecodeErrors = "replace", skip_special: bool = False
    ) -> StreamDecoder:
        """Return a decoder of ids that come one by one, which never splits a character."""
        left_out = self._special_ids if skip_special else frozenset()
        return StreamDecoder(self._token_bytes, left_out, errors)

    def decode_with_offsets(self, ids: Iterable[int]) -> tuple[str, list[int]]:
        """Decode ids to (text, begins): for each token, the character that holds its first byte.

        Raises:
            TypeError, ValueError: as decode_bytes does.
        """
        tokens = self._token_bytes.of_ids(ids)
        data = b"".join(tokens)
        begins, _ = token_spans(data, np.fromiter(map(len, tokens), np.int64, len(tokens)))
        return data.decode("utf-8", "replace"), begins.tolist()
