"""Byte-level BPE tokenizer: train, encode, decode, save, load. `python -m fastlm.tokenizer`.

>>> vocab, merges = train_bpe("stories.txt", 10_000, ["<|endoftext|>"])
>>> tokenizer = Tokenizer(vocab, merges, ["<|endoftext|>"])
>>> tokenizer.decode(tokenizer.encode("Once upon a time"))
'Once upon a time'

What is compiled (fastlm.bpe) is imported when first used, so that importing this file stays quick.
"""

import codecs
import functools
import hashlib
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import UInt
from tyro.conf import Positional, UseAppendAction

from fastlm import cli
from fastlm.bpe import gpt2_files
from fastlm.bpe.blocks import (
    Block,
    cut_blocks,
    document_blocks,
    map_blocks,
    map_in_order,
)
from fastlm.tokenizer_files import (
    StrPath,
    check_file,
    check_special,
    read_text,
    read_token_file,
    text_file_blocks,
    to_json,
    to_utf8,
    write_atomically,
    write_token_file,
)
from fastlm.tokenizer_files import train_bpe as train_bpe
from fastlm.tokenizer_files import train_bpe_from_documents as train_bpe_from_documents

if TYPE_CHECKING:
    from fastlm.bpe.encode import Encoder

END_OF_TEXT = "<|endoftext|>"
VOCAB_FILE, MERGES_FILE = "vocab.json", "merges.txt"
SPECIAL_FILE, HUGGING_FACE_FILE = "special_tokens.json", "tokenizer.json"

_STREAM_BYTES = 1 << 16  # blocks of encode_iterable; the first are smaller, so that ids come early
_FIRST_STREAM_BYTES = 1 << 10
_DECODED_TOKENS = 1 << 16  # at a time
_BATCH_TEXTS = 256  # texts that one thread encodes at a time


class Tokenizer:
    """Text to token ids and back.

    Attributes:
        vocab: id -> bytes, ids 0 to vocab_size - 1; special tokens included.
        merges: pairs of byte strings, in the order learned.
        special_tokens: text -> id.

    >>> tokenizer = Tokenizer.load("runs/stories/tokenizer")
    >>> tokenizer.encode("Once upon a time<|endoftext|>")
    [430, 439, 259, 397, 9999]
    """

    def __init__(
        self,
        vocab: dict[int, bytes],
        merges: Sequence[tuple[bytes, bytes]],
        special_tokens: Sequence[str] | None = None,
    ) -> None:
        """Special tokens that are not in the vocabulary get the next ids, in the order given.

        Raises:
            ValueError: if ids are not 0 to n - 1, tokens are empty or double, or a merge has parts
                or a result outside the vocabulary.
        """
        self.vocab = dict(vocab)
        self.merges = [(bytes(left), bytes(right)) for left, right in merges]
        self.special_tokens: dict[str, int] = {}
        missing = next((i for i in range(len(self.vocab)) if i not in self.vocab), None)
        if missing is not None:
            raise ValueError(
                f"token ids must be 0 to {len(self.vocab) - 1}, one for each of "
                f"{len(self.vocab)} tokens: id {missing} is missing"
            )
        self._ids: dict[bytes, int] = {}
        for token_id in range(len(self.vocab)):
            self._add_token(token_id, self.vocab[token_id])
        for token in check_special(special_tokens or ()):
            spelled = token.encode()
            if spelled not in self._ids:
                self.vocab[len(self.vocab)] = spelled
                self._ids[spelled] = len(self.vocab) - 1
            self.special_tokens[token] = self._ids[spelled]
        for rank, (left, right) in enumerate(self.merges):
            for part in (left, right, left + right):
                if part not in self._ids:
                    raise ValueError(
                        f"merge {rank}, {left!r} + {right!r}, needs {part!r}, which is not in the "
                        "vocabulary; vocabulary and merges must come from one training"
                    )

    def _add_token(self, token_id: int, token: bytes) -> None:
        if not token:
            raise ValueError(f"tokens must not be empty: id {token_id} is")
        if self._ids.setdefault(token, token_id) != token_id:
            raise ValueError(f"ids {self._ids[token]} and {token_id} are both {token!r}; keep one")

    @classmethod
    def from_files(
        cls,
        vocab_path: StrPath,
        merges_path: StrPath,
        special_tokens: Sequence[str] | None = None,
    ) -> "Tokenizer":
        """Read vocab.json and merges.txt in GPT-2's form.

        Raises:
            FileNotFoundError, ValueError: naming the file and what is wrong in it.
        """
        vocab = gpt2_files.parse_vocab(read_text(vocab_path), special_tokens or (), str(vocab_path))
        merges = gpt2_files.parse_merges(read_text(merges_path), str(merges_path))
        try:
            return cls(vocab, merges, special_tokens)
        except ValueError as error:
            raise ValueError(f"{vocab_path}, {merges_path}: {error}") from None

    @classmethod
    def load(cls, folder: StrPath) -> "Tokenizer":
        """Read a folder that save wrote, or any with GPT-2's two files."""
        folder = Path(folder)
        special_tokens: list[str] = []
        if (folder / SPECIAL_FILE).exists():
            text = read_text(folder / SPECIAL_FILE)
            try:
                entries = json.loads(text)
                special_tokens = sorted(entries, key=lambda token: int(entries[token]))
            except (ValueError, TypeError):
                raise ValueError(
                    f"{folder / SPECIAL_FILE} must be a JSON object of special tokens and ids"
                ) from None
        return cls.from_files(folder / VOCAB_FILE, folder / MERGES_FILE, special_tokens)

    def save(self, folder: StrPath) -> None:
        """Write vocab.json, merges.txt, special_tokens.json and, for `tokenizers`, tokenizer.json.

        Each file is replaced whole or not at all.
        """
        folder = Path(folder)
        vocab = gpt2_files.printable_vocab(self.vocab, self.special_tokens)
        tokenizer = gpt2_files.hugging_face_tokenizer(self.vocab, self.merges, self.special_tokens)
        texts = {
            SPECIAL_FILE: to_json(self.special_tokens),
            MERGES_FILE: gpt2_files.format_merges(self.merges),
            HUGGING_FACE_FILE: to_json(tokenizer),
            VOCAB_FILE: to_json(vocab),
        }
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_atomically(folder / name, [text.encode()])

    @property
    def vocab_size(self) -> int:
        return len(self.vocab)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of ids in arrays and token files: uint16 while vocab_size <= 65,536, else uint32."""
        return np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256, in hex, of all that decides ids.

        Hashed are, each as a length in 8 little-endian bytes and its bytes: the tokens in the order
        of their ids, then left and right of each merge, then the special tokens in the order of
        their ids; before each of the three groups its size, in 8 bytes.
        """
        digest = hashlib.sha256()
        merge_parts = [part for pair in self.merges for part in pair]
        special = sorted(self.special_tokens, key=self.special_tokens.__getitem__)
        tokens = [self.vocab[token_id] for token_id in range(self.vocab_size)]
        for group in (tokens, merge_parts, [token.encode() for token in special]):
            digest.update(len(group).to_bytes(8, "little"))
            for item in group:
                digest.update(len(item).to_bytes(8, "little") + item)
        return digest.hexdigest()

    def token_to_id(self, token: str | bytes) -> int:
        """Id of a token, special ones included.

        Raises:
            ValueError: if it is not in the vocabulary.
        """
        spelled = token.encode() if isinstance(token, str) else token
        if spelled not in self._ids:
            raise ValueError(f"{token!r} is not one of the {self.vocab_size} tokens")
        return self._ids[spelled]

    @functools.cached_property
    def _encoder(self) -> "Encoder":
        from fastlm.bpe.encode import NO_TOKEN, Encoder

        ids = self._ids
        byte_ids = [ids.get(bytes([byte]), NO_TOKEN) for byte in range(256)]
        merges = [(ids[left], ids[right], ids[left + right]) for left, right in self.merges]
        return Encoder(
            np.array(byte_ids, np.int64),
            np.array(merges, np.int64).reshape(-1, 3),
            {token.encode(): token_id for token, token_id in self.special_tokens.items()},
            self.dtype,
        )

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; special tokens in it become their ids.

        Raises:
            ValueError: if the text holds lone surrogates.
        """
        ids: list[int] = self.encode_to_numpy(text).tolist()
        return ids

    def encode_to_numpy(self, text: str | bytes) -> UInt[np.ndarray, " n_tokens"]:
        """As encode, to an array of self.dtype; bytes must be UTF-8."""
        return self._encoder.encode(to_utf8(text) if isinstance(text, str) else text)

    def encode_batch(
        self, texts: Iterable[str], *, n_threads: int | None = None
    ) -> list[list[int]]:
        """Encode each text by itself."""
        listed = list(texts)
        groups = [listed[i : i + _BATCH_TEXTS] for i in range(0, len(listed), _BATCH_TEXTS)]
        encoded = map_in_order(lambda group: list(map(self.encode, group)), groups, n_threads)
        return [ids for group in encoded for ids in group]

    def encode_iterable(self, iterable: Iterable[str]) -> Iterator[int]:
        """Ids of the joined strings, as encode gives them, wherever the strings are cut.

        Lazy, and in memory that does not grow with the stream: text is held back to the last
        place where a pre-token surely starts.
        """
        special = [token.encode() for token in self.special_tokens]
        chunks = map(to_utf8, iterable)
        for block in cut_blocks(
            chunks, special, n_bytes=_STREAM_BYTES, n_first_bytes=_FIRST_STREAM_BYTES
        ):
            yield from self.encode_to_numpy(block).tolist()

    def encode_documents(
        self,
        documents: Iterable[str],
        *,
        end_of_text: str | None = END_OF_TEXT,
        n_threads: int | None = None,
    ) -> Iterator[UInt[np.ndarray, " n_tokens"]]:
        """Ids of documents, in order, in arrays that each cover a block of about 2 MB of text.

        Args:
            end_of_text: token put after each document; None puts none.
        """
        end_id = -1 if end_of_text is None else self.token_to_id(end_of_text)
        blocks = document_blocks(map(to_utf8, documents))
        return self._encode_blocks(blocks, end_id, n_threads)

    def encode_file(
        self, path: StrPath, *, n_threads: int | None = None, errors: str = "strict"
    ) -> Iterator[UInt[np.ndarray, " n_tokens"]]:
        """Ids of a UTF-8 text file, in order, in arrays that each cover a block of it.

        Args:
            errors: "strict" refuses invalid UTF-8, "replace" reads it as U+FFFD.
        """
        special = [token.encode() for token in self.special_tokens]
        return self._encode_blocks(text_file_blocks(path, special, errors), -1, n_threads)

    def _encode_blocks(
        self, blocks: Iterable[Block], end_of_text: int, n_threads: int | None
    ) -> Iterator[UInt[np.ndarray, " n_tokens"]]:
        encoder = self._encoder
        return map_blocks(
            lambda text, bounds: encoder.encode(text, bounds, end_of_text), blocks, n_threads
        )

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Bytes of the tokens, one after another.

        Raises:
            ValueError: if an id is not in the vocabulary.
        """
        # Arrays and tensors give Python numbers much faster all at once.
        listed = ids.tolist() if hasattr(ids, "tolist") else ids
        try:
            return b"".join(map(self.vocab.__getitem__, listed))
        except KeyError as error:
            raise ValueError(
                f"token ids must be 0 to {self.vocab_size - 1}: got {error.args[0]}; "
                "was this encoded with another tokenizer?"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the tokens, with U+FFFD for bytes that are not UTF-8."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_batch(self, batch: Iterable[Iterable[int]]) -> list[str]:
        return [self.decode(ids) for ids in batch]


def _train_command(
    text: Positional[tuple[Path, ...]],
    vocab_size: int,
    out: Path,
    special_token: UseAppendAction[tuple[str, ...]] = (END_OF_TEXT,),
    n_threads: int | None = None,
    errors: Literal["strict", "replace"] = "strict",
) -> None:
    """Learn a vocabulary from text files and write it to a folder.

    Args:
        text: UTF-8 text files; documents are separated by a special token.
        vocab_size: number of tokens: 256 bytes, merges, special tokens.
        out: folder to write.
        special_token: text that is one token and is never merged across; give one each time.
        n_threads: threads that count words; all cores when not given.
        errors: what to do with invalid UTF-8: refuse it, or read it as U+FFFD.
    """
    started = time.perf_counter()
    special_tokens = list(dict.fromkeys(special_token))
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder to write: {out} is a file")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        vocab, merges = train_bpe(
            text, vocab_size, special_tokens, n_threads=n_threads, errors=errors
        )
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    Tokenizer(vocab, merges, special_tokens).save(out)
    print(f"{out}: {len(vocab):,} tokens in {time.perf_counter() - started:.1f} s")


def _encode_command(
    text: Positional[Path],
    tokenizer: Path,
    out: Path,
    n_threads: int | None = None,
    errors: Literal["strict", "replace"] = "strict",
) -> None:
    """Write the token ids of a text file, and FILE.bin.json that says how to read them.

    Args:
        text: UTF-8 text file.
        tokenizer: folder of the tokenizer.
        out: file to write: little-endian uint16, or uint32 from 65,537 tokens on.
        n_threads: threads that encode; all cores when not given.
        errors: what to do with invalid UTF-8: refuse it, or read it as U+FFFD.
    """
    started = time.perf_counter()
    loaded = Tokenizer.load(tokenizer)
    if not out.parent.is_dir():
        raise FileNotFoundError(f"expected a folder {out.parent} to write in: make it first")
    count = write_token_file(
        out, loaded.encode_file(text, n_threads=n_threads, errors=errors), loaded
    )
    n_bytes = text.stat().st_size
    print(
        f"{out}: {count:,} tokens of {n_bytes:,} bytes ({n_bytes / max(count, 1):.3f} a token) "
        f"in {time.perf_counter() - started:.1f} s"
    )


def _decode_command(file: Positional[Path], tokenizer: Path) -> None:
    """Print the text of a token file.

    Args:
        file: token file, with its .json beside it.
        tokenizer: folder of the tokenizer that encoded it.
    """
    loaded = Tokenizer.load(tokenizer)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    tokens = read_token_file(file, loaded)
    for begin in range(0, len(tokens), _DECODED_TOKENS):
        text = decoder.decode(loaded.decode_bytes(tokens[begin : begin + _DECODED_TOKENS]))
        sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.write(decoder.decode(b"", final=True).encode())
    sys.stdout.flush()


def _report_command(text: Positional[Path], tokenizer: Path, n_longest: int = 10) -> None:
    """Print compression and speed beside character, byte and word tokenizers; longest tokens.

    Args:
        text: UTF-8 text file.
        tokenizer: folder of the tokenizer.
        n_longest: how many of the longest tokens to print.
    """
    from fastlm.bpe.compare import compare

    loaded = Tokenizer.load(tokenizer)
    check_file(text)
    if text.stat().st_size == 0:
        raise ValueError(f"{text} is empty: there is nothing to measure")
    special = [token.encode() for token in loaded.special_tokens]
    blocks = text_file_blocks(text, special, "strict")
    measures = compare(blocks, loaded.encode_to_numpy, loaded.vocab_size)
    print(f"{'tokenizer':10} {'vocabulary':>12} {'tokens':>14} {'bytes/token':>12} {'MB/s':>9}")
    for measure in measures:
        print(
            f"{measure.name:10} {measure.n_tokens_known:12,} {measure.n_tokens:14,} "
            f"{measure.bytes_per_token:12.3f} {measure.bytes_per_second / 1e6:9.1f}"
        )
    print("longest tokens:")
    longest = sorted(loaded.vocab.items(), key=lambda item: (-len(item[1]), item[0]))
    for token_id, token in longest[:n_longest]:
        print(f"{len(token):4} bytes  {token_id:7}  {token.decode('utf-8', 'replace')!r}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run `python -m fastlm.tokenizer`."""
    commands: dict[str, Callable[..., None]] = {
        "train": _train_command,
        "encode": _encode_command,
        "decode": _decode_command,
        "report": _report_command,
    }
    cli.run_command(commands, argv, prog="python -m fastlm.tokenizer")


if __name__ == "__main__":
    cli.run(main)
