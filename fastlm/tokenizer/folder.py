"""Read and write the files of a tokenizer: ours, GPT-2's, Hugging Face's and tiktoken's."""

import contextlib
import hashlib
import json
import operator
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from fastlm.files import disk
from fastlm.files.destination import entries, find
from fastlm.files.json_files import read_object_or_empty, to_json
from fastlm.files.paths import StrPath, read_bytes
from fastlm.lazy import numpy as np
from fastlm.tokenizer.formats import gpt2, hugging_face, tiktoken
from fastlm.tokenizer.formats.hugging_face_rules import why_not
from fastlm.tokenizer.rules import AddedToken, Rules, read_rules
from fastlm.tokenizer.tables import (
    Tables,
    fill_gaps,
    hash_tables,
    make_tables,
    pack_tables,
    unpack_tables,
)
from fastlm.tokenizer.text_blocks import read_text

VOCAB_FILE, MERGES_FILE = "vocab.json", "merges.txt"
SPECIAL_FILE, HUGGING_FACE_FILE = "special_tokens.json", "tokenizer.json"
TABLES_FILE = "tables.npz"
RULES_FILE = "rules.json"
"""Name of the file with what is not GPT-2's way: the pattern, the normalizer, tokens with flags"""
# An entry of special_tokens.json beside rules.json, which no token can be: versions that do not
# know rules.json refuse it.
_RULES_KEY = ""
KEPT_AS = "tokenizer"
"""Name of the folder of the tokenizer inside prepared data and runs"""
_SAVED = (VOCAB_FILE, MERGES_FILE, SPECIAL_FILE, HUGGING_FACE_FILE, TABLES_FILE, RULES_FILE)

RANKS_FILE, ENCODING_FILE = "ranks.tiktoken", "encoding.json"
_RANK_SUFFIXES = (".tiktoken", ".model")
ADDED_FILE, CONFIG_FILE = "added_tokens.json", "tokenizer_config.json"
_OF_OTHERS = (CONFIG_FILE, "special_tokens_map.json")

_ADDED_TO_TEXTS = ("add_prefix_space", "add_bos_token", "add_eos_token")

_PAIRS = ((VOCAB_FILE, MERGES_FILE), ("encoder.json", "vocab.bpe"))
_READ_IN_A_FOLDER = (
    *chain.from_iterable(_PAIRS),
    SPECIAL_FILE,
    HUGGING_FACE_FILE,
    TABLES_FILE,
    RULES_FILE,
    RANKS_FILE,
    ENCODING_FILE,
    ADDED_FILE,
)


def read_tokenizer(path: StrPath) -> tuple[Tables, str | None]:
    """Read a folder, a tokenizer.json or a rank file.

    Returns:
        (tables, hash); the hash is None where no file stores it.
    Raises:
        FileNotFoundError, ValueError: with the file and its fault.
    """
    path = Path(path)
    if path.suffix in _RANK_SUFFIXES:
        return _read_ranks(path), None
    if path.is_file():
        return _read_tokenizer_json(path), None
    tables, tokenizer_hash = _read_folder(path)
    _check_are_special(path / ADDED_FILE, _read_added(path / ADDED_FILE), tables)
    return tables, tokenizer_hash


def _read_folder(path: Path) -> tuple[Tables, str | None]:
    pair = next((pair for pair in _PAIRS if all((path / name).is_file() for name in pair)), None)
    if (path / SPECIAL_FILE).is_file() and pair is not None:
        own, tokenizer_hash = _read_own(path, *pair)
        _check_saved_again(path, own)
        return own, tokenizer_hash
    # It says more than the pair of files beside it, such as another pattern than GPT-2's.
    has_json = (path / HUGGING_FACE_FILE).is_file()
    config_path = path / CONFIG_FILE
    config = read_object_or_empty(config_path) if config_path.is_file() else {}
    _check_config(config_path, config, has_json=has_json)
    tables = None
    if has_json:
        tables = _read_tokenizer_json(path / HUGGING_FACE_FILE)
    elif pair is not None and not (path / RULES_FILE).is_file():  # otherwise it is not whole
        tables = _read_pair(path / pair[0], path / pair[1])
    if tables is not None:
        added = _added_by_config(config_path, config, tables.rules)
        _check_are_special(config_path, added, tables)
        return tables, None
    if (path / RANKS_FILE).is_file():
        return _read_ranks(path / RANKS_FILE), None
    raise _is_missing(path)


def check_tokenizer(path: StrPath) -> None:
    """Raise a FileNotFoundError if read_tokenizer would find no file."""
    if not any(file.is_file() for file in files_of(path)):
        raise _is_missing(Path(path))


def _is_missing(path: Path) -> FileNotFoundError:
    found = "none" if path.is_dir() else "no such folder"
    if own_files(path / KEPT_AS):
        found = f"one in {path / KEPT_AS}: give that"
    return FileNotFoundError(
        f"expected a tokenizer in {path}, {VOCAB_FILE} and {MERGES_FILE} or {HUGGING_FACE_FILE}: "
        f"there is {found}"
    )


def files_of(path: StrPath) -> list[Path]:
    """The files that read_tokenizer may read."""
    path = Path(path)
    if path.suffix in _RANK_SUFFIXES:
        return [path, path.with_name(ENCODING_FILE)]
    return [path / name for name in _READ_IN_A_FOLDER] if path.is_dir() else [path]


def read_vocab_and_merges(
    vocab_path: StrPath,
    merges_path: StrPath,
    special_tokens: Sequence[str],
    rules: Rules | None = None,
) -> Tables:
    """Read GPT-2's two files; special_tokens are those to treat as special.

    Raises:
        FileNotFoundError, ValueError: with the file and its fault.
    """
    entries = gpt2.parse_entries(read_text(vocab_path), str(vocab_path))
    merges = gpt2.parse_merges(read_text(merges_path), str(merges_path))
    vocab = gpt2.spell_vocab(entries, special_tokens, str(vocab_path))
    return _make_tables(f"{vocab_path}, {merges_path}", vocab, merges, special_tokens, rules)


def _read_rules(folder: Path) -> Rules:
    """Read rules.json; a folder without it has the default."""
    path = folder / RULES_FILE
    if not path.is_file():
        return Rules()
    try:
        told = json.loads(read_text(path))
    except (ValueError, RecursionError):
        told = None
    return read_rules(told, str(path))


def _read_own(folder: Path, vocab_name: str, merges_name: str) -> tuple[Tables, str | None]:
    """Read a folder with special_tokens.json, from tables.npz if no other file has changed."""
    tables_path = folder / TABLES_FILE
    if tables_path.is_file():
        names = (vocab_name, merges_name, SPECIAL_FILE)
        contents = [read_bytes(folder / name) for name in names]
        if (folder / RULES_FILE).is_file():
            contents.append(read_bytes(folder / RULES_FILE))
        made_from = _hash_files(contents)
        unpacked = unpack_tables(tables_path.read_bytes(), made_from)
        if unpacked is not None:
            return unpacked
    text = read_text(folder / SPECIAL_FILE)
    try:
        told = json.loads(text)
        has_rules = told.get(_RULES_KEY) == RULES_FILE and told.pop(_RULES_KEY) is not None
        ids = {token: operator.index(number) for token, number in told.items()}
    except (ValueError, RecursionError, TypeError, AttributeError):
        raise ValueError(
            f"{folder / SPECIAL_FILE} must be a JSON object of special tokens and ids"
        ) from None
    if has_rules and not (folder / RULES_FILE).is_file():
        raise FileNotFoundError(
            f"{folder / RULES_FILE} is missing, which says how texts are cut: copy it from where "
            "the folder comes from"
        )
    special_tokens = sorted(ids, key=ids.__getitem__)
    _warn_of_unlisted(folder / SPECIAL_FILE, folder / vocab_name, folder / merges_name, ids)
    tables = read_vocab_and_merges(
        folder / vocab_name, folder / merges_name, special_tokens, _read_rules(folder)
    )
    for token, token_id in zip(special_tokens, tables.special_ids, strict=True):
        if ids[token] != token_id:
            raise ValueError(
                f"{folder / SPECIAL_FILE} gives {token!r} the id {ids[token]}, {vocab_name} the id "
                f"{token_id}; correct the wrong one"
            )
    return tables, None


def _check_saved_again(folder: Path, tables: Tables) -> None:
    """Raise a ValueError if another program has saved another tokenizer into our folder.

    It leaves our files as they are, and tokenizer.json is the one that it changes.
    """
    if not any((folder / name).is_file() for name in _OF_OTHERS):
        return
    path = folder / HUGGING_FACE_FILE
    written = tables._replace(rules=tables.rules._replace(merges_by_rank=False))
    if path.is_file() and hash_tables(_read_tokenizer_json(path)) != hash_tables(written):
        raise ValueError(
            f"{path} and {SPECIAL_FILE} beside it are of two tokenizers: remove {SPECIAL_FILE} if "
            f"{HUGGING_FACE_FILE} is right, or else {HUGGING_FACE_FILE}"
        )


def _warn_of_unlisted(
    path: Path, vocab_path: Path, merges_path: Path, ids: Collection[str]
) -> None:
    """Warn of tokens like <|endoftext|> in the vocabulary that special_tokens.json does not list.

    No merge makes them: a text that has one gets the ids of its letters.
    """
    entries = gpt2.parse_entries(read_text(vocab_path), str(vocab_path))
    merges = gpt2.parse_merges(read_text(merges_path), str(merges_path))
    found = gpt2.find_special(entries, {left + right for left, right in merges})
    unlisted = [token for token in found if token not in ids]
    if unlisted:
        warnings.warn(
            f"{path} does not list {unlisted[0]!r}, id {entries[unlisted[0]]} of {vocab_path.name}"
            f" (and {len(unlisted) - 1} more): in texts it is encoded as letters, not as a special "
            "token",
            stacklevel=5,
        )


def _read_pair(vocab_path: Path, merges_path: Path) -> Tables:
    """Read GPT-2's two files; tokens like <|endoftext|> become the special tokens."""
    if not vocab_path.with_name(ADDED_FILE).is_file():
        quick = gpt2.read_quickly(read_bytes(vocab_path), read_bytes(merges_path))
        if quick is not None:
            (text, ends, rows, _), special_ids = quick
            return Tables(text, ends, rows, special_ids)
    entries = gpt2.parse_entries(read_text(vocab_path), str(vocab_path))
    merges = gpt2.parse_merges(read_text(merges_path), str(merges_path))
    made = {left + right for left, right in merges}
    added = _read_added(vocab_path.with_name(ADDED_FILE))
    for token, token_id in added.items():
        if entries.setdefault(token, token_id) != token_id:
            raise ValueError(
                f"{vocab_path} gives {token!r} the id {entries[token]}, {ADDED_FILE} the id "
                f"{token_id}; correct the wrong one"
            )
    found = {*gpt2.find_special(entries, made), *added}
    special_tokens = sorted(found, key=entries.__getitem__)
    vocab = gpt2.spell_vocab(entries, special_tokens, str(vocab_path))
    tables = _make_tables(f"{vocab_path}, {merges_path}", vocab, merges, special_tokens)
    unreachable = gpt2.find_unreachable(vocab, made, special_tokens)
    if unreachable:
        warnings.warn(
            f"{vocab_path}: {len(unreachable)} tokens are neither bytes nor made by a merge, so no "
            f"text gets their ids; the first is {vocab[unreachable[0]]!r}, id {unreachable[0]}; "
            f"list special tokens in {SPECIAL_FILE}, with their ids",
            stacklevel=4,
        )
    return tables


def _check_config(path: Path, config: Mapping[str, Any], *, has_json: bool) -> None:
    """Raise a ValueError if transformers would put something before or after each text."""
    if config.get("tokenizer_class") not in ("GPT2Tokenizer", "GPT2TokenizerFast"):
        return
    # Where there is a tokenizer.json, its post_processor says whether tokens are added.
    for name in ("add_prefix_space",) if has_json else _ADDED_TO_TEXTS:
        if config.get(name):
            raise ValueError(
                f"{path}: {name} must be false for this tokenizer to give the ids of "
                "transformers: got true; use the files with transformers, or write it in the texts"
            )


def _added_by_config(path: Path, config: Mapping[str, Any], rules: Rules) -> dict[str, int]:
    """Return the tokens that transformers adds by its settings, and their ids."""
    added = config.get("added_tokens_decoder") or {}
    told = {token.content: token for token in rules.added}
    try:
        for token in added.values():
            for name in ("lstrip", "rstrip", "single_word"):
                known = told.get(token["content"], AddedToken(token["content"]))
                given = bool(token.get(name))
                if given != getattr(known, name):
                    shown = str(given).lower()
                    raise ValueError(f"{token['content']!r} has {name} {shown}, which changes ids")
        return {str(token["content"]): int(token_id) for token_id, token in added.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: added_tokens_decoder must be a JSON object of ids and plain tokens: {error}; "
            "use the files with transformers"
        ) from None


def _read_added(path: Path) -> dict[str, int]:
    """Read the tokens that earlier versions of transformers kept beside GPT-2's two files."""
    if not path.is_file():
        return {}
    return gpt2.parse_entries(read_text(path), str(path))


def _check_are_special(path: Path, added: Mapping[str, int], tables: Tables) -> None:
    """Raise a ValueError if a file of added tokens has one that the tokenizer does not have."""
    tokens = tables.tokens() if added else []
    for token, token_id in added.items():
        if token_id not in tables.special_ids or tokens[token_id] != token.encode():
            raise ValueError(
                f"{path} has the token {token!r} with the id {token_id}, which is no special token "
                "by the other files in the folder; remove it there if they are right"
            )


def _read_tokenizer_json(path: Path) -> Tables:
    parts = hugging_face.parse_tokenizer_json(read_text(path), str(path))
    return _make_tables(str(path), *parts)


def _read_ranks(path: Path) -> Tables:
    """Read tiktoken's ranks; encoding.json beside them has the pattern and the special tokens."""
    if path.is_file() and b"\0" in read_bytes(path):
        raise ValueError(
            f"{path}: expected ranks of tiktoken, got a model of SentencePiece or another that is "
            "no byte-level BPE; use it with the package it comes from"
        )
    vocab = tiktoken.parse_ranks(read_text(path), str(path))
    about = path.with_name(ENCODING_FILE)
    if about.is_file():
        try:
            told = json.loads(read_text(about))
            expression, special = told["pat_str"], dict(told["special_tokens"])
            ids = {str(token): operator.index(number) for token, number in special.items()}
        except (ValueError, RecursionError, KeyError, TypeError):
            raise ValueError(f"{about} must hold pat_str and special_tokens with ids") from None
        pattern = tiktoken.parse_pattern(expression, str(about))
    elif path.stem in tiktoken.ENCODINGS:
        pattern, ids = tiktoken.ENCODINGS[path.stem]
    else:
        raise ValueError(
            f"{path} does not say which pattern cuts the text: expected {ENCODING_FILE} beside it "
            f"(pat_str, special_tokens), or one of {', '.join(tiktoken.ENCODINGS)}"
        )
    rules = Rules(pattern)
    try:
        merges = tiktoken.find_merges(vocab, str(path))
    except ValueError:
        if tiktoken.missing_bytes(vocab):
            raise
        merges = tiktoken.find_all_merges(vocab)
        rules = rules._replace(ignore_merges=True, merges_by_rank=True)
    special_tokens = sorted(ids, key=ids.__getitem__)
    for token in special_tokens:
        if vocab.setdefault(ids[token], token.encode()) != token.encode():
            raise ValueError(f"{path}: rank {ids[token]} belongs to another token than {token!r}")
    rules = rules._replace(unused=fill_gaps(vocab, str(path)))
    return _make_tables(str(path), vocab, merges, special_tokens, rules)


def _make_tables(
    source: str,
    vocab: Mapping[int, bytes],
    merges: Sequence[tuple[bytes, bytes]],
    special_tokens: Sequence[str],
    rules: Rules | None = None,
) -> Tables:
    try:
        return make_tables(vocab, merges, special_tokens, rules)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def write_tokenizer(
    folder: StrPath,
    vocab: Mapping[int, bytes],
    merges: Sequence[tuple[bytes, bytes]],
    special_tokens: Mapping[str, int],
    tables: Tables,
    tokenizer_hash: str,
    *,
    replace: bool = False,
    is_locked: bool = False,
) -> None:
    """Write the files of a tokenizer, as documented at Tokenizer.save."""
    folder = find(Path(folder)).path  # so that "new/.." is the folder that it will be
    files = {
        VOCAB_FILE: _json(gpt2.printable_vocab(vocab, special_tokens)),
        MERGES_FILE: gpt2.format_merges(merges).encode(),
        SPECIAL_FILE: _json(special_tokens),
    }
    lengths = np.diff(tables.bounds).tolist()
    if reason := why_not(tables.rules, tables.merges.tolist(), lengths):
        warnings.warn(
            f"{folder / HUGGING_FACE_FILE} is not written, and only fastlm can read the folder: "
            f"{reason}",
            stacklevel=3,
        )
    else:
        described = hugging_face.format_tokenizer_json(vocab, merges, special_tokens, tables.rules)
        files[HUGGING_FACE_FILE] = _json(described)
    if told := tables.rules.as_json():
        files[RULES_FILE] = _json(told)
        files[SPECIAL_FILE] = _json({**special_tokens, _RULES_KEY: RULES_FILE})
    made_of = (VOCAB_FILE, MERGES_FILE, SPECIAL_FILE, RULES_FILE)
    made_from = _hash_files([files[name] for name in made_of if name in files])
    files[TABLES_FILE] = pack_tables(tables, tokenizer_hash, made_from)
    with contextlib.nullcontext() if is_locked else disk.locked(folder):
        _write_files(folder, files, replace=replace)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the files of a tokenizer; files that are equal already and files of others stay."""
    names = [name for name in _READ_IN_A_FOLDER if (source / name).is_file()]
    with disk.locked(folder):
        _write_files(folder, {n: (source / n).read_bytes() for n in names}, replace=True)


def check_copy(source: Path, folder: Path) -> None:
    """Raise a FileExistsError if copy_tokenizer would replace a file of another tokenizer."""
    for path in own_files(folder):
        copy = source / path.name
        if not (path.is_file() and copy.is_file() and path.read_bytes() == copy.read_bytes()):
            raise FileExistsError(
                f"{folder} holds another tokenizer than {source}: give another --out, or move it "
                "away"
            )


def is_linked(folder: Path) -> bool:
    """Return whether a tokenizer, or a file of it, is a link, and so may be another's too."""
    return folder.is_symlink() or any(path.is_symlink() for path in own_files(folder))


def saved_files(folder: Path) -> list[Path]:
    """Return the files in a folder that have a name under which write_tokenizer writes."""
    folder = find(folder).path
    return [folder / name for name in _SAVED if os.path.lexists(folder / name)]


def own_files(folder: Path) -> list[Path]:
    """Return the files in a folder that read_tokenizer may read there."""
    folder = find(folder).path
    return [folder / name for name in _READ_IN_A_FOLDER if os.path.lexists(folder / name)]


def _write_files(folder: Path, files: Mapping[str, bytes], *, replace: bool) -> None:
    """Write the files into a new or empty folder at once, or replace those of another tokenizer.

    At every moment the folder can be read as either the old or the new tokenizer. The caller holds
    the lock of the folder.
    """
    if not folder.is_dir() or not any(entries(find(folder))):
        with disk.whole_folder(folder, last=SPECIAL_FILE, is_locked=True) as partial:
            for name, content in files.items():
                disk.write_new(partial / name, content)
        return
    found = own_files(folder)
    kept = [p.name for p in found if p.is_file() and p.read_bytes() == files.get(p.name)]
    others = [path for path in found if path.name not in kept]
    if others and not replace:
        raise FileExistsError(
            f"{folder} holds another tokenizer, with {others[0].name}: give another folder"
        )
    first, last = HUGGING_FACE_FILE, SPECIAL_FILE
    new = [name for name in files if name not in kept]
    if not new and not others:
        return
    # Without SPECIAL_FILE, HUGGING_FACE_FILE alone is read, which is a complete tokenizer.
    if first not in files:
        disk.remove_file(folder / first)
    elif first in new:
        disk.write_file(folder / first, files[first], replace=True)
    disk.remove_file(folder / last)
    for name in new:
        if name not in (first, last):
            disk.write_file(folder / name, files[name], replace=True)
    for name in (ADDED_FILE, RULES_FILE):
        if replace and name not in files:
            disk.remove_file(folder / name)  # left by the other tokenizer
    if last in files:
        disk.write_file(folder / last, files[last], replace=True)


def _hash_files(contents: Sequence[bytes]) -> str:
    """SHA-256 of the SHA-256 of each file, so that no byte can move between files unnoticed."""
    return hashlib.sha256(b"".join(hashlib.sha256(c).digest() for c in contents)).hexdigest()


def _json(values: Any) -> bytes:
    """Return values with one entry per line and characters as they are."""
    return to_json(values, indent=0, is_ascii=False)
