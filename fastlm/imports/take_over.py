"""Import models, tokenizers and token files of other tools.

python -m fastlm.imports model FOLDER --out RUN
"""

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fastlm.accounting import count_parameters
from fastlm.checkpoint import take_snapshot, write_snapshot
from fastlm.config import ModelConfig, TrainConfig
from fastlm.data.prepared import write_meta
from fastlm.data.unfinished import tokenizer_of
from fastlm.devices.hardware import describe
from fastlm.export import architectures
from fastlm.files import disk
from fastlm.files.paths import check_unchanged, identify
from fastlm.files.tokens import TokenWriter, read_ids
from fastlm.model import TransformerLM
from fastlm.runs.record import RunRecord
from fastlm.runs.state import IMPORTED
from fastlm.tokenizer.tokenizer import END_OF_TEXT, Tokenizer

HEADER_BYTES = 1024
_KINDS: dict[tuple[int, int], np.dtype[Any]] = {
    (20240520, 1): np.dtype("<u2"),
    (20240801, 7): np.dtype("<u4"),
}
"""Magic number and version of llm.c's token files, and the dtype of their tokens.
Source: Karpathy 2024, github.com/karpathy/llm.c, dev/data/data_common.py."""
_OTHERS = {b"\x93NUMPY": "a NumPy array", b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "gzip"}
_BLOCK_TOKENS = 1 << 24
_TELLING_TOKENS = 16
"""Tokens needed to judge a dtype: every second one is 0 only if it is wrong"""
_HIGH_HALVES = 16
"""Bound of the high halves of uint32 ids: no vocabulary has 16 * 65,536 tokens"""


class ForeignTokens(NamedTuple):
    """A token file of another tool."""

    path: Path
    kind: np.dtype[Any]
    begin: int
    """Size of its header in bytes."""
    n_tokens: int
    vocab_size: int
    seen: list[int]
    """The file's identity when it was opened, see files.paths.identify."""

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Read and check all tokens.

        Raises:
            ValueError: if one does not belong to the vocabulary, or the file changes meanwhile.
        """
        with open(self.path, "rb") as file:
            yield from read_ids(
                file,
                self.kind,
                self.vocab_size,
                self.path,
                n_ids=self.n_tokens,
                offset=self.begin,
            )
        check_unchanged(self.path, self.seen)


def import_model(folder: Path, out: Path, *, tokenizer: Path | None = None) -> list[str]:
    """Make a run from a folder of transformers, with a checkpoint to generate or train from.

    Rows of the embedding beyond the tokenizer's vocabulary are left out.

    Args:
        folder: folder with config.json and safetensors, in one file or in several with an index.
        tokenizer: the model's tokenizer, if the folder has none that Tokenizer.load reads.
    Returns:
        Lines of notes for the user.
    Raises:
        FileNotFoundError, ValueError: if the model cannot be imported; the message names the file
            and the entries that do not fit.
        FileExistsError: if out is not empty.
    """
    disk.check_new_folder(out)
    path = folder / "config.json"
    values = _read_json(path)
    try:
        config = architectures.model_config(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    read = Tokenizer.load(tokenizer or folder)
    tensors = _read_tensors(folder)
    try:
        state = architectures.model_tensors(config, values["model_type"], tensors)
        padded = config.vocab_size
        config, state = architectures.without_padding(config, state, read.vocab_size)
        _check_size(config, state)  # before memory is taken for the sizes in config.json
        model = TransformerLM(config)
        model.load_state_dict(state)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{folder}: {error}") from None
    run = TrainConfig(recipe=IMPORTED, model=config, max_steps=1)
    about = {
        "config": dataclasses.asdict(run),
        "tokenizer_hash": read.hash,
        "train_hash": "",
    }
    with disk.whole_folder(out, last="config.json") as partial:
        record = RunRecord(partial)
        read.save(record.tokenizer)
        record.start(run, describe(torch.device("cpu")))
        write_snapshot(record.checkpoints, take_snapshot(0, model, [], {}, about))
    lines = []
    if padded > config.vocab_size:
        lines.append(f"rows {config.vocab_size:,} to {padded - 1:,} stand for no token: left out")
    return lines


def _check_size(config: ModelConfig, state: dict[str, Tensor]) -> None:
    """Raise a ValueError unless the tensors have as many values as the network has parameters."""
    expected, found = count_parameters(config), sum(tensor.numel() for tensor in state.values())
    if found != expected:
        raise ValueError(
            f"config.json is of a network with {expected:,} parameters, and the tensors have "
            f"{found:,} values: they do not belong together"
        )


def import_tokens(
    train: Sequence[Path],
    val: Sequence[Path],
    tokenizer: Path,
    out: Path,
    *,
    dtype: Literal["uint16", "uint32"] | None = None,
) -> Path:
    """Make a prepared folder from token files of nanoGPT (no header) or llm.c (with a header).

    Args:
        train, val: token files, joined in the given order.
        tokenizer: the tokenizer that made them.
        dtype: dtype of the tokens in files without a header; None: found from their ids.
    Raises:
        FileNotFoundError, ValueError: if a file cannot be imported; the message names it and its
            fault, and nothing is written.
        FileExistsError: if out is not empty.
    """
    disk.check_new_folder(out)
    read = Tokenizer.load(tokenizer)
    if END_OF_TEXT not in read.special_tokens:
        raise ValueError(f"the tokenizer in {tokenizer} has no {END_OF_TEXT} token")
    _check_different(train, val)
    splits = {
        "train": [open_foreign(path, read.vocab_size, dtype) for path in train],
        "val": [open_foreign(path, read.vocab_size, dtype) for path in val],
    }
    for name, files in splits.items():
        if not sum(file.n_tokens for file in files):
            paths = ", ".join(str(file.path) for file in files)
            raise ValueError(f"--{name}: there are no tokens in {paths}")
    lengths = np.array([len(read.vocab[i]) for i in range(read.vocab_size)], np.int64)
    lengths[list(read.special_tokens.values())] = 0
    end = read.special_tokens[END_OF_TEXT]
    described = {}
    source = {"files": [file.path.name for files in splits.values() for file in files]}
    with disk.whole_folder(out, last="meta.json") as partial:
        for name, files in splits.items():
            n_bytes, n_documents = 0, 0
            writer = TokenWriter(partial / f"{name}.bin", dtype=read.dtype.name)
            with contextlib.closing(writer):
                for block in itertools.chain.from_iterable(file.blocks() for file in files):
                    n_bytes += int(lengths[block].sum())
                    n_documents += int((block == end).sum())
                    writer.write(block)
                facts = writer.finish()
            described[name] = {**facts, "text_bytes": n_bytes, "documents": n_documents}
        read.save(tokenizer_of(partial))
        write_meta(partial, read, described, source)
    return out


def _check_different(train: Sequence[Path], val: Sequence[Path]) -> None:
    """Raise a ValueError if two of the files are one, by whatever names."""
    flags: dict[tuple[int, int], str] = {}
    given = [(f"--train {path}", path) for path in train] + [
        (f"--val {path}", path) for path in val
    ]
    for flag, path in given:
        if not path.is_file():
            raise FileNotFoundError(f"no such token file: {path}")
        found = path.stat()
        other = flags.setdefault((found.st_dev, found.st_ino), flag)
        if other is not flag:
            raise ValueError(f"{other} and {flag} are the same file: give each file once")


def open_foreign(path: Path, vocab_size: int, dtype: str | None) -> ForeignTokens:
    """Check a token file of another tool and read its ids once.

    Args:
        dtype: dtype of the tokens, used if the file has no header; None: found from its ids.
    Raises:
        FileNotFoundError, ValueError: as import_tokens does.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such token file: {path}")
    seen = identify(path)
    size = seen[0]
    with open(path, "rb") as file:
        head = file.read(HEADER_BYTES)
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            raise ValueError(f"{path} is {what}: expected bare tokens, or llm.c's header before")
    if size == 0:
        raise ValueError(f"{path} is empty")
    begin = 0
    versions = dict(_KINDS.keys())
    numbers = np.frombuffer(head[: len(head) // 4 * 4], "<i4")
    if len(numbers) and int(numbers[0]) in versions:
        if size < HEADER_BYTES:
            raise ValueError(f"{path} is cut off in its header: {size} bytes of {HEADER_BYTES}")
        number, version, count = (int(x) for x in numbers[:3])
        if versions[number] != version:
            raise ValueError(
                f"{path} has version {version} of its format: expected {versions[number]}"
            )
        begin, kind = HEADER_BYTES, _KINDS[number, version]
        if size != HEADER_BYTES + count * kind.itemsize:
            raise ValueError(
                f"{path} should have {count:,} tokens, says its header, which are "
                f"{HEADER_BYTES + count * kind.itemsize:,} bytes with it: it has {size:,}"
            )
    else:
        kind = np.dtype(dtype or _find_dtype(path, vocab_size)).newbyteorder("<")
        if size % kind.itemsize:
            raise ValueError(
                f"{path} has {size:,} bytes: no whole number of {kind.name}; it is cut off, or of "
                "another --dtype"
            )
        _check_width(path, kind)
    count = (size - begin) // kind.itemsize
    found = ForeignTokens(path, kind, begin, count, vocab_size, seen)
    for _ in found.blocks():
        pass
    return found


def _find_dtype(path: Path, vocab_size: int) -> str:
    """Return the dtype of the tokens in a file without a header.

    Raises:
        ValueError: if the first tokens do not tell.
    """
    fits = {}
    for name in ("uint16", "uint32"):
        ids = _first_ids(path, np.dtype(name))
        is_whole = path.stat().st_size % ids.itemsize == 0
        fits[name] = is_whole and len(ids) > 0 and int(ids.max()) < vocab_size
    if vocab_size > 1 << 16 and fits["uint32"]:
        return "uint32"
    if vocab_size > 1 << 16:
        raise ValueError(
            f"{path}: ids of a vocabulary of {vocab_size:,} need 4 bytes, and it holds none of "
            "this vocabulary in 4 bytes; give --dtype uint16 if no id was above 65,535"
        )
    if fits["uint32"]:
        raise ValueError(
            f"{path}: every second number of 2 bytes in it is 0, as if each token had 4: give "
            "--dtype uint32, or --dtype uint16 if it has 2"
        )
    return "uint16"


def _check_width(path: Path, kind: np.dtype[Any]) -> None:
    """Raise a ValueError if every second token looks like the high half of one twice as wide."""
    ids = _first_ids(path, kind)
    if len(ids) < _TELLING_TOKENS:
        return
    low, high = int(ids[::2].max()), int(ids[1::2].max())
    if (kind.itemsize == 2 and high < _HIGH_HALVES <= low) or high == 0 < low:
        what = "0" if high == 0 else f"below {_HIGH_HALVES}"
        raise ValueError(
            f"{path}: every second token is {what}, so it is no file of {kind.name}: its tokens "
            f"have {2 * kind.itemsize} bytes; "
            + ("give --dtype uint32" if kind.itemsize == 2 else "write it again as uint32")
        )


def _first_ids(path: Path, kind: np.dtype[Any]) -> NDArray[Any]:
    with open(path, "rb") as file:
        raw = file.read(_BLOCK_TOKENS)
    return np.frombuffer(raw, kind.newbyteorder("<"), len(raw) // kind.itemsize)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())  # with or without a byte order mark
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"expected a folder of transformers: no {path}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} must be a JSON object")
    return values


def _read_tensors(folder: Path) -> dict[str, Any]:
    """Return all tensors of the safetensors files in a folder, on the CPU."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        weight_map = _read_json(index).get("weight_map")
        if not (isinstance(weight_map, dict) and weight_map):
            raise ValueError(f"{index} must have a weight_map of tensors and files")
        for tensor, name in weight_map.items():
            if not (isinstance(name, str) and Path(name).name):
                raise ValueError(
                    f"{index} must have a weight_map to names of files: got {name!r} for {tensor}"
                )
        names = sorted(set(weight_map.values()))
    tensors: dict[str, Any] = {}
    for name in names:
        path = folder / Path(name).name
        if not path.is_file():
            found = sorted(p.name for p in folder.glob("*.bin")) + sorted(
                p.name for p in folder.glob("*.pt*")
            )
            other = f"; {found[0]} is not read, as reading it may run code" if found else ""
            raise FileNotFoundError(f"expected {path}: there is none{other}")
        try:
            tensors |= load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged: {error}; get it again") from None
    return tensors
