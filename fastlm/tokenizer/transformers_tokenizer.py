"""A tokenizer with the interface that transformers gives its own, without importing transformers.

>>> tokenizer = TransformersTokenizer.from_pretrained("runs/stories/tokenizer")
>>> tokenizer(["Once upon a time", "The end"], padding=True, return_tensors="pt")
{'input_ids': tensor([[ 430,  439,  259,  397], [ 300,  512, 9999, 9999]]), 'attention_mask': ...}
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from fastlm.corpus.documents import END_OF_TEXT
from fastlm.files import disk
from fastlm.files.json_files import read_object, to_json
from fastlm.files.paths import StrPath
from fastlm.lazy import numpy as np
from fastlm.tokenizer.bpe.errors import check_integer, plain_str, refuse_unordered
from fastlm.tokenizer.bpe.token_bytes import as_row
from fastlm.tokenizer.folder import CONFIG_FILE, HUGGING_FACE_FILE
from fastlm.tokenizer.formats.gpt2 import printable_vocab
from fastlm.tokenizer.formats.hugging_face import format_tokenizer_config, format_tokenizer_json
from fastlm.tokenizer.given_texts import check_several
from fastlm.tokenizer.text_batches import cut_rows, pad_rows, put_around, room_in
from fastlm.tokenizer.tokenizer import Tokenizer
from fastlm.tokenizer.transformers_limits import (
    Limits,
    check_side,
    choose_limits,
    cut_lists,
    fill_rows,
)

_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")
_NO_LIMIT = int(1e30)  # as transformers has it

# The features that can be asked for: the value of each token of a text, and that of padding.
_OF_TOKEN = {"attention_mask": 1, "token_type_ids": 0, "special_tokens_mask": 0}
_FILLS = {
    "attention_mask": 0,
    "token_type_ids": 0,
    "special_tokens_mask": 1,
    "offset_mapping": (0, 0),
}


class BatchEncoding(dict[str, Any]):
    """The result of a TransformersTokenizer: a dict whose values are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"expected one of {', '.join(self)}: got {name!r}") from None

    def to(self, device: Any, *, non_blocking: bool = False) -> "BatchEncoding":
        """Move all tensors to a device of PyTorch; returns the object itself."""
        for name, value in self.items():
            if hasattr(value, "to"):
                self[name] = value.to(device=device, non_blocking=non_blocking)
        return self


class _NamedToken:
    """A special token that has a use, as text, or None; it can be set."""

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, tokenizer: "TransformersTokenizer", _owner: type) -> str | None:
        return tokenizer.special_tokens_map.get(self._name)

    def __set__(self, tokenizer: "TransformersTokenizer", token: str | None) -> None:
        if token is None:
            tokenizer.special_tokens_map.pop(self._name, None)
            return
        known = tokenizer.tokenizer.special_tokens
        if not isinstance(token, str) or token not in known:
            raise ValueError(
                f"{self._name} must be a special token of this tokenizer, {list(known)}: got "
                f"{token!r}"
            )
        tokenizer.special_tokens_map[self._name] = token


class _NamedTokenId:
    """The id of the special token of the same name without _id, or None; it can be set."""

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name.removesuffix("_id")

    def __get__(self, tokenizer: "TransformersTokenizer", _owner: type) -> int | None:
        token = tokenizer.special_tokens_map.get(self._name)
        return None if token is None else tokenizer.tokenizer.special_tokens[token]

    def __set__(self, tokenizer: "TransformersTokenizer", token_id: int | None) -> None:
        token = None if token_id is None else tokenizer.convert_ids_to_tokens(token_id)
        setattr(tokenizer, self._name, token)


class TransformersTokenizer:
    """A Tokenizer whose methods have the names, arguments and results of transformers'.

    Its results are those of transformers.PreTrainedTokenizerFast with the files that
    save_pretrained writes, but for what is an error here: an id outside the vocabulary (there it
    is left out), rows of different lengths for NumPy (there an array of objects), and an argument
    that is not known. Pairs of texts, texts split into words, overflowing tokens and chat templates
    are not supported.

    Attributes:
        tokenizer: the Tokenizer.
        bos_token, eos_token, unk_token, pad_token: special tokens, or None; with _id, their ids.
        model_max_length: where truncation cuts if no max_length is given.
        padding_side, truncation_side: "right" or "left".
    """

    bos_token, bos_token_id = _NamedToken(), _NamedTokenId()
    eos_token, eos_token_id = _NamedToken(), _NamedTokenId()
    unk_token, unk_token_id = _NamedToken(), _NamedTokenId()
    pad_token, pad_token_id = _NamedToken(), _NamedTokenId()
    cls_token = sep_token = mask_token = cls_token_id = sep_token_id = mask_token_id = None
    is_fast = True

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        bos_token: str | None = END_OF_TEXT,
        eos_token: str | None = END_OF_TEXT,
        unk_token: str | None = None,
        pad_token: str | None = END_OF_TEXT,
        model_max_length: int = _NO_LIMIT,
        padding_side: str = "right",
        truncation_side: str = "right",
        name_or_path: str = "",
    ) -> None:
        """Wrap a tokenizer; a default of <|endoftext|> is None where that is no special token.

        Raises:
            TypeError, ValueError: naming the argument.
        """
        if not isinstance(tokenizer, Tokenizer):
            raise TypeError(
                f"expected a Tokenizer, got {type(tokenizer).__name__}: from_pretrained reads one"
            )
        self.tokenizer = tokenizer
        self.special_tokens_map: dict[str, str] = {}
        for name, token in zip(_NAMES, (bos_token, eos_token, unk_token, pad_token), strict=True):
            if token != END_OF_TEXT or token in tokenizer.special_tokens:
                setattr(self, name, token)
        limit = check_integer("model_max_length", model_max_length)
        if limit < 1:
            raise ValueError(f"model_max_length must be at least 1: got {limit}")
        self.model_max_length = limit
        self.padding_side = check_side("padding_side", padding_side)
        self.truncation_side = check_side("truncation_side", truncation_side)
        self.name_or_path = name_or_path
        self.model_input_names = ["input_ids", "attention_mask"]

    @classmethod
    def from_pretrained(cls, path: StrPath, **options: Any) -> "TransformersTokenizer":
        """Read what Tokenizer.load reads, and the settings in a tokenizer_config.json beside it.

        Args:
            options: arguments of TransformersTokenizer, instead of the settings in the file.
        Raises:
            FileNotFoundError, ValueError: with the file and its fault.
        """
        tokenizer = Tokenizer.load(path)
        folder = Path(path) if Path(path).is_dir() else Path(path).parent
        settings: dict[str, Any] = {"name_or_path": str(path)}
        if (config := folder / CONFIG_FILE).is_file():
            found = _settings(read_object(config))
            settings |= {name: value for name, value in found.items() if name not in options}
            try:
                cls(tokenizer, **settings)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{config}: {error}") from None
        return cls(tokenizer, **settings | options)

    def save_pretrained(self, save_directory: StrPath, *, replace: bool = False) -> tuple[str, ...]:
        """Write tokenizer.json and tokenizer_config.json, which transformers reads; return paths.

        Other files in the folder stay.

        Args:
            replace: replace the two files if they are there with other content.
        Raises:
            FileExistsError: if one of them is, and replace is not given.
        """
        folder, tokenizer = Path(save_directory), self.tokenizer
        described = format_tokenizer_json(
            tokenizer.vocab, tokenizer.merges, tokenizer.special_tokens, tokenizer.rules
        )
        config = format_tokenizer_config(
            self.special_tokens_map,
            model_max_length=self.model_max_length,
            padding_side=self.padding_side,
            truncation_side=self.truncation_side,
        )
        files = {
            folder / HUGGING_FACE_FILE: to_json(described, indent=0, is_ascii=False),
            folder / CONFIG_FILE: to_json(config),
        }
        with disk.locked(folder):
            new = {p: raw for p, raw in files.items() if not p.is_file() or p.read_bytes() != raw}
            for path in new:
                disk.check_new_file(path, replace=replace)
            for path, raw in new.items():
                disk.write_file(path, raw, replace=replace)
        return tuple(map(str, files))

    def __call__(
        self,
        text: str | Iterable[str],
        *,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool = True,
        return_token_type_ids: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        split_special_tokens: bool = False,
    ) -> BatchEncoding:
        """Encode one text or several to input_ids and attention_mask.

        Args:
            add_special_tokens: put around a text what the tokenizer.json of a model asks for.
            padding: "longest" or True, "max_length", or "do_not_pad" or False.
            truncation: "longest_first" or True, or "do_not_truncate" or False; None truncates if
                max_length is given without padding.
            return_tensors: "pt" for PyTorch, "np" for NumPy, of int64; None for lists.
            return_offsets_mapping: return offset_mapping too, the span of each token in its text.
            split_special_tokens: special tokens in the text are plain text.
        Raises:
            TypeError: if a text is no str.
            ValueError: for arguments out of range, texts with lone surrogates, or rows of different
                lengths that are to be a tensor.
        """
        limits = self._limits(padding, truncation, max_length, pad_to_multiple_of, padding_side)
        _check_tensors(return_tensors)
        if is_one := isinstance(text, str):
            texts = [text]
        else:
            check_several(text)
            texts = list(text)
        allowed: Any = () if split_special_tokens else "all"
        wanted = (return_attention_mask, return_token_type_ids, return_special_tokens_mask)
        others = {
            name: _OF_TOKEN[name]
            for name, is_wanted in zip(_OF_TOKEN, wanted, strict=True)
            if is_wanted
        }
        rules = self.tokenizer.rules
        around = (rules.before, rules.after) if add_special_tokens else ((), ())
        if limits.cut_at is not None:
            room = room_in("max_length", limits.cut_at, sum(map(len, around)))
            limits = limits._replace(cut_at=room)
        # These two differ between the tokens of a text and those around it.
        differ = return_offsets_mapping or return_special_tokens_mask
        if return_tensors is not None and not is_one and not differ:
            return self._as_matrices(texts, allowed, others, limits, around, return_tensors)
        rows = self._as_rows(texts, allowed, with_spans=return_offsets_mapping)
        if limits.cut_at is not None:
            rows = {n: cut_lists(r, limits.cut_at, self.truncation_side) for n, r in rows.items()}
        for name, value in others.items():
            rows[name] = [[value] * len(row) for row in rows["input_ids"]]
        if any(around):
            rows = {name: self._put_around(name, r, around) for name, r in rows.items()}
        filled = self._fill(rows, limits)
        if return_tensors is None:
            return BatchEncoding({n: r[0] for n, r in filled.items()} if is_one else filled)
        _check_equal(list(map(len, filled["input_ids"])))
        return BatchEncoding(
            {n: _as_tensor(np.array(r, np.int64), return_tensors) for n, r in filled.items()}
        )

    def _as_rows(
        self, texts: list[str], allowed: Any, *, with_spans: bool
    ) -> dict[str, list[list[Any]]]:
        """Return the features of each text as lists."""
        if with_spans:
            encode = self.tokenizer.encode_with_offsets
            encoded = [encode(text, allowed_special=allowed) for text in texts]
            return {
                "input_ids": [ids for ids, _ in encoded],
                "offset_mapping": [spans for _, spans in encoded],
            }
        if len(texts) == 1:
            return {"input_ids": [self.tokenizer.encode(texts[0], allowed_special=allowed)]}
        return {"input_ids": self.tokenizer.encode_batch(texts, allowed_special=allowed)}

    def _put_around(
        self, name: str, rows: list[list[Any]], around: tuple[Sequence[int], Sequence[int]]
    ) -> list[list[Any]]:
        """Put around each row of a feature what belongs to the special tokens there."""
        before, after = map(list, around)
        if name != "input_ids":
            # A special token is looked at and has no place in the text.
            value = 1 if name == "attention_mask" else self._fills[name]
            before, after = [value] * len(before), [value] * len(after)
        return [[*before, *row, *after] for row in rows]

    def _as_matrices(
        self,
        texts: list[str],
        allowed: Any,
        others: Mapping[str, int],
        limits: Limits,
        around: tuple[Sequence[int], Sequence[int]],
        return_tensors: str,
    ) -> BatchEncoding:
        """Return the features of several texts as tensors, without making lists."""
        ids, offsets = self.tokenizer.encode_batch_flat(texts, allowed_special=allowed)
        if limits.cut_at is not None:
            kept, offsets = cut_rows(offsets, limits.cut_at, self.truncation_side)
            ids = ids[kept]
        ids, offsets = put_around(ids, offsets, *around)
        lengths = np.diff(offsets).tolist()
        width = limits.width_of(lengths)
        if width < max(lengths, default=0) or not limits.is_padded:
            _check_equal(lengths)
            width = max(lengths, default=0)
        fill = self._fills["input_ids"]
        matrix, mask = pad_rows(ids, offsets, width, fill=fill, side=limits.side, dtype=np.int64)
        found = {"input_ids": matrix}
        for name, value in others.items():
            found[name] = np.where(mask, value, self._fills[name])
        return BatchEncoding({n: _as_tensor(v, return_tensors) for n, v in found.items()})

    def encode(self, text: str | Iterable[str], **options: Any) -> Any:
        """Return the input_ids that calling the object gives with the same arguments."""
        return self(text, return_attention_mask=False, **options)["input_ids"]

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text, each byte spelled as GPT-2's printable character."""
        return [self._spelled[i] for i in self.tokenizer.encode(text)]

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> Any:
        """Decode an id or a row of ids to a text, or several rows to a list of texts.

        Args:
            clean_up_tokenization_spaces: without effect, as in transformers for a BPE tokenizer.
        Raises:
            TypeError, ValueError: as Tokenizer.decode does.
        """
        listed = _as_lists(token_ids)
        if isinstance(listed, int):
            listed = [listed]
        if isinstance(listed, (list, tuple)) and listed and _is_row(listed[0]):
            return [self.tokenizer.decode(row, skip_special=skip_special_tokens) for row in listed]
        return self.tokenizer.decode(listed, skip_special=skip_special_tokens)

    def batch_decode(
        self,
        sequences: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> list[str]:
        """Decode several rows of ids to texts."""
        listed = list(_as_lists(sequences))
        decoded = self.decode(listed, skip_special_tokens)
        if isinstance(decoded, str):  # no rows, or one
            return [decoded] if listed else []
        return list(decoded)

    def pad(
        self,
        encoded_inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool = True,
        return_tensors: str | None = None,
    ) -> BatchEncoding:
        """Fill rows of input_ids, and the features that go with them, up to one length.

        Args:
            return_tensors: None returns lists for lists, arrays for arrays, tensors for tensors.
            encoded_inputs: what calling the object returns, or a list of it for single texts.
                Features other than input_ids, attention_mask, token_type_ids and
                special_tokens_mask stay as they are.
        """
        limits = self._limits(padding, False, max_length, pad_to_multiple_of, padding_side)
        _check_tensors(return_tensors)
        if not isinstance(encoded_inputs, Mapping):
            encoded_inputs = _together(encoded_inputs)
        if "input_ids" not in encoded_inputs:
            raise ValueError(f"expected input_ids among what to pad: got {list(encoded_inputs)}")
        return_tensors = return_tensors or _kind_of(encoded_inputs["input_ids"])
        rows = {name: _as_lists(value) for name, value in encoded_inputs.items()}
        is_one = bool(rows["input_ids"]) and not _is_row(rows["input_ids"][0])
        if is_one:
            rows = {name: [row] for name, row in rows.items()}
        if return_attention_mask and "attention_mask" not in rows:
            rows["attention_mask"] = [[1] * len(row) for row in rows["input_ids"]]
        filled = self._fill(rows, limits)
        if is_one:
            filled = {name: row[0] for name, row in filled.items()}
        if return_tensors is None:
            return BatchEncoding(filled)
        if not is_one:
            for value in filled.values():
                _check_equal([len(row) for row in value if _is_row(row)])
        return BatchEncoding(
            {name: _as_tensor(value, return_tensors) for name, value in filled.items()}
        )

    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> Any:
        """Return the ids of tokens as tokenize spells them; unk_token_id for what is none."""
        if isinstance(tokens, str):
            return self._ids.get(tokens, self.unk_token_id)
        refuse_unordered(tokens, "tokens")
        return [self._ids.get(plain_str(token), self.unk_token_id) for token in tokens]

    def convert_ids_to_tokens(
        self, ids: int | Iterable[int], skip_special_tokens: bool = False
    ) -> Any:
        """Return tokens as tokenize spells them.

        Args:
            skip_special_tokens: leave out those of all_special_ids.
        Raises:
            ValueError: if an id is not in the vocabulary.
        """
        if isinstance(listed := _as_lists(ids), int):
            self.tokenizer.decode_single_token_bytes(listed)  # raises what is wrong with it
            return self._spelled[listed]
        left_out = self.all_special_ids if skip_special_tokens else ()
        return [self._spelled[i] for i in self._known(listed) if i not in left_out]

    def _known(self, ids: Iterable[int]) -> list[int]:
        """Return ids of the vocabulary as a list; raise what Tokenizer.decode raises for others."""
        listed = _as_lists(as_row(ids))
        self.tokenizer.decode_tokens_bytes(listed)
        return list(listed)

    def convert_tokens_to_string(self, tokens: Iterable[str]) -> str:
        """Decode tokens as tokenize spells them to a text."""
        listed = list(tokens)
        ids: list[int | None] = self.convert_tokens_to_ids(listed)
        if None in ids:
            raise ValueError(f"{listed[ids.index(None)]!r} is not one of the {len(self)} tokens")
        return self.tokenizer.decode([i for i in ids if i is not None])

    def get_vocab(self) -> dict[str, int]:
        """Return all tokens as tokenize spells them, and their ids."""
        return dict(self._ids)

    def get_added_vocab(self) -> dict[str, int]:
        """Return the special tokens and their ids, in the order of the ids."""
        return dict(sorted(self.tokenizer.special_tokens.items(), key=lambda item: item[1]))

    def get_special_tokens_mask(
        self, token_ids_0: Iterable[int], already_has_special_tokens: bool = True
    ) -> list[int]:
        """Return 1 for each id of all_special_ids, and 0 for all others."""
        special = set(self.all_special_ids)
        return [int(token_id in special) for token_id in self._known(token_ids_0)]

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Return how many tokens add_special_tokens puts around a text."""
        return len(self.tokenizer.rules.before) + len(self.tokenizer.rules.after)

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return self.tokenizer.vocab_size

    @property
    def all_special_tokens(self) -> list[str]:
        """The tokens that have a use, such as eos_token, each once."""
        ordered = [self.special_tokens_map.get(name) for name in _NAMES]
        return list(dict.fromkeys(token for token in ordered if token is not None))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of all_special_tokens."""
        return [self.tokenizer.special_tokens[token] for token in self.all_special_tokens]

    def __len__(self) -> int:
        return self.vocab_size

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"TransformersTokenizer({self.tokenizer!r}, {self.special_tokens_map})"

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return printable_vocab(self.tokenizer.vocab, self.tokenizer.special_tokens)

    @functools.cached_property
    def _spelled(self) -> list[str]:
        return list(self._ids)

    def _limits(
        self,
        padding: bool | str,
        truncation: bool | str | None,
        max_length: int | None,
        multiple_of: int | None,
        side: str | None,
    ) -> Limits:
        limits = choose_limits(
            padding,
            truncation,
            max_length,
            multiple_of,
            check_side("padding_side", self.padding_side if side is None else side),
            self.model_max_length if self.model_max_length < _NO_LIMIT else None,
        )
        if limits.is_padded and self.pad_token is None:
            raise ValueError(
                "padding needs a pad_token: give one of the special tokens, such as "
                "tokenizer.pad_token = tokenizer.eos_token"
            )
        return limits

    @property
    def _fills(self) -> dict[str, Any]:
        """The value that fills a row of each feature."""
        return _FILLS | {"input_ids": self.pad_token_id or 0}

    def _fill(self, rows: Mapping[str, list[Any]], limits: Limits) -> dict[str, list[Any]]:
        """Fill the rows of each feature that is as long as the text."""
        if not limits.is_padded:
            return dict(rows)
        width = limits.width_of(list(map(len, rows["input_ids"])))
        return {
            name: fill_rows(row, self._fills[name], width, limits) if name in self._fills else row
            for name, row in rows.items()
        }


def _check_tensors(return_tensors: str | None) -> None:
    if return_tensors not in (None, "pt", "np"):
        raise ValueError(f"return_tensors must be 'pt' or 'np': got {return_tensors!r}")


def _check_equal(lengths: Sequence[int]) -> None:
    if len(set(lengths)) > 1:
        raise ValueError(
            f"rows of a tensor must have one length: got {min(lengths)} to {max(lengths)}; give "
            "padding=True, and truncation=True with a max_length if they are longer than that"
        )


def _as_tensor(value: Any, kind: str) -> Any:
    if kind == "np":
        return np.asarray(value)
    torch = import_module("torch")  # who asks for its tensors has it; all else does without
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else torch.tensor(value)


def _as_lists(value: Any) -> Any:
    """Return arrays and tensors, alone or in a list, as lists."""
    if getattr(value, "is_meta", False):
        raise TypeError("expected values, got a tensor on the meta device, which has none")
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (list, tuple)) and any(hasattr(one, "tolist") for one in value):
        return [_as_lists(one) for one in value]
    return value


def _together(given: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the features of several texts, from those of each."""
    refuse_unordered(given, "features of several texts")
    listed = list(given)
    for one in listed:
        if not isinstance(one, Mapping):
            raise TypeError(f"expected features of a text in a dict, got {type(one).__name__}")
        if one.keys() != listed[0].keys():
            raise ValueError(
                f"expected the same features of each text: got {list(listed[0])} and {list(one)}"
            )
    names = listed[0] if listed else ("input_ids",)
    return {name: [one[name] for one in listed] for name in names}


def _kind_of(value: Any) -> str | None:
    """Return whether rows are given as tensors of PyTorch, "pt", as arrays, "np", or as lists."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    if isinstance(first, np.ndarray):
        return "np"
    return "pt" if type(first).__module__ == "torch" else None


def _is_row(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray)) or getattr(value, "ndim", 0) > 0


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a tokenizer_config.json that are arguments of the class."""
    settings = {name: config.get(name) for name in _NAMES}
    for name, token in settings.items():
        settings[name] = token.get("content") if isinstance(token, dict) else token
    for name in ("model_max_length", "padding_side", "truncation_side"):
        if config.get(name) is not None:
            settings[name] = config[name]
    return settings
