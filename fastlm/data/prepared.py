"""Open prepared data: a folder of token files, their description and the tokenizer.

A prepared folder holds train.bin and val.bin (or shards: train-00000.bin, ...), meta.json, which
describes them, and the tokenizer that made them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fastlm.data.splits import SPLITS
from fastlm.data.unfinished import tokenizer_of
from fastlm.files import disk
from fastlm.files.sealed import read_sealed, seal
from fastlm.files.tokens import ShardedTokens, TokenFile, Tokens, open_token_file
from fastlm.runs.given import check_prepared
from fastlm.tokenizer.folder import copy_tokenizer
from fastlm.tokenizer.tokenizer import END_OF_TEXT as END_OF_TEXT
from fastlm.tokenizer.tokenizer import Tokenizer

FORMAT = 2
SHARDED_FORMAT = 3  # readers that know only format 2 refuse this number


class Split(NamedTuple):
    """The memory-mapped token ids of one split, in one file or in several consecutive ones."""

    tokens: Tokens
    text_bytes: int
    """Number of UTF-8 bytes of the text that the tokens encode, without separators"""
    files: tuple[TokenFile, ...]
    hash: str
    """SHA-256 of the ids as written, independent of the number of files"""

    def verify(self) -> None:
        """Call TokenFile.verify for each file."""
        for file in self.files:
            file.verify()


@dataclass(frozen=True)
class PreparedData:
    """A prepared folder that has been checked and opened."""

    folder: Path
    vocab_size: int
    tokenizer_hash: str
    train: Split
    val: Split

    @property
    def tokenizer_folder(self) -> Path:
        return tokenizer_of(self.folder)

    def copy_tokenizer(self, folder: Path) -> None:
        """Copy the tokenizer; files that are equal already and files of others stay."""
        copy_tokenizer(self.tokenizer_folder, folder)

    def verify(self) -> None:
        """Call Split.verify for both splits."""
        self.train.verify()
        self.val.verify()


def open_prepared(folder: Path | str) -> PreparedData:
    """Open a folder that prepare() made; only PreparedData.verify reads all token ids.

    Raises:
        FileNotFoundError: if the folder does not exist or was not made by prepare().
        ValueError: if a file does not match meta.json; the message names the file.
    """
    folder = Path(folder)
    meta_path = folder / "meta.json"
    check_prepared(folder)
    try:
        meta = read_sealed(meta_path)
    except ValueError as error:
        raise ValueError(
            f"{meta_path} is not a description of token files: {error}; prepare the data again"
        ) from None
    if meta.get("format") not in (FORMAT, SHARDED_FORMAT):
        raise ValueError(
            f"{meta_path} has format {meta.get('format')}, expected {FORMAT}; "
            "prepare the data again"
        )
    train, val = (_open_split(folder, meta["splits"][n], meta["vocab_size"]) for n in SPLITS)
    return PreparedData(folder, meta["vocab_size"], meta["tokenizer_hash"], train, val)


def _open_split(folder: Path, described: dict[str, Any], vocab_size: int) -> Split:
    files = tuple(
        open_token_file(
            folder / file["file"],
            dtype=described["dtype"],
            count=file["count"],
            sha256=file["sha256"],
            vocab_size=vocab_size,
        )
        for file in described.get("shards", [described])
    )
    for file in files:
        if not len(file.tokens):
            raise ValueError(f"{file.path} is empty; {file.remedy}")
    tokens = ShardedTokens([f.tokens for f in files]) if "shards" in described else files[0].tokens
    return Split(tokens, described["text_bytes"], files, described["sha256"])


def same_text_warning(train_hash: str, val_hash: str) -> str:
    """Return a warning if both splits have the same ids, by their hashes; else an empty string."""
    if train_hash != val_hash:
        return ""
    return (
        "warning: the text to validate on is the one to train on, token for token, so its loss "
        "tells nothing about other text: give another one"
    )


def check_tokenizer(data: PreparedData) -> None:
    """Refuse data whose folder holds a different tokenizer from the one that made them.

    Raises:
        ValueError, FileNotFoundError: if so; the message names the folder.
    """
    folder = data.tokenizer_folder
    found = Tokenizer.load(folder).hash
    if found != data.tokenizer_hash:
        raise ValueError(
            f"{folder} is not the tokenizer that {data.folder} was made with: its hash is "
            f"{found[:12]}, expected {data.tokenizer_hash[:12]}; prepare the data again"
        )


def write_meta(
    folder: Path, tokenizer: Tokenizer, splits: dict[str, Any], source: dict[str, Any]
) -> None:
    """Write meta.json, which turns a folder with token files into a prepared folder.

    Args:
        splits: for train and val, the facts of the files, text_bytes and documents.
        source: description of the texts and settings, read by people and by prepare().
    """
    meta = {
        "format": SHARDED_FORMAT if any("shards" in s for s in splits.values()) else FORMAT,
        "vocab_size": tokenizer.vocab_size,
        "tokenizer_hash": tokenizer.hash,
        "end_of_text_id": tokenizer.special_tokens[END_OF_TEXT],
        "splits": splits,
        "source": source,
    }
    disk.write_new(folder / "meta.json", seal(meta))
