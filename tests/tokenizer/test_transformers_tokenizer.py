"""TransformersTokenizer gives what transformers gives for the files that it writes."""

import copy
import itertools
import json
import pickle
import warnings

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_cases import END, PROPERTY, SPECIAL, small_tokenizer, texts

from fastlm.tokenizer import Tokenizer, TransformersTokenizer
from fastlm.tokenizer.transformers_tokenizer import BatchEncoding

TEXTS = ["the cat sat on the mat", "", f"a{END}中文 😀", "the", "<|end|>x"]


@pytest.fixture(scope="module")
def plain() -> Tokenizer:
    return small_tokenizer()


@pytest.fixture
def ours(plain) -> TransformersTokenizer:
    return TransformersTokenizer(plain, model_max_length=9)


@pytest.fixture(scope="module")
def theirs(plain, tmp_path_factory) -> transformers.PreTrainedTokenizerFast:
    folder = tmp_path_factory.mktemp("saved")
    TransformersTokenizer(plain, model_max_length=9).save_pretrained(folder)
    return transformers.AutoTokenizer.from_pretrained(folder)


def same(one, other) -> bool:
    """Whether two results are equal: texts, lists, tensors, arrays, or mappings of them."""
    if hasattr(one, "keys"):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, torch.Tensor | np.ndarray):
        return type(one) is type(other) and one.dtype == other.dtype and one.shape == other.shape and (one == other).all()  # fmt: skip
    return type(one) is type(other) and one == other


def result(call, *arguments, **options):
    """The result of a call, or ValueError if it raised one or gave arrays of objects."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = call(*arguments, **options)
        except ValueError:
            return ValueError
    # Rows of different lengths are no array: transformers makes one of objects, for NumPy alone.
    has_objects = any(isinstance(v, np.ndarray) and v.dtype.kind == "O" for v in found.values())
    return ValueError if has_objects else found


GIVEN = [TEXTS, TEXTS[0], "", ["the"], ("the", "a cat"), ["", ""]]
PADDING = [False, True, "longest", "max_length", "do_not_pad"]
TRUNCATION = [None, False, True, "longest_first", "do_not_truncate"]


@pytest.mark.parametrize("texts_given", GIVEN, ids=repr)
def test_padding_truncation_and_tensors(ours, theirs, texts_given):
    grid = itertools.product(
        PADDING, TRUNCATION, [None, 0, 3, 4, 30], [None, 4], [None, "left"], [None, "np", "pt"]
    )
    for padding, truncation, max_length, multiple, side, tensors in grid:
        options = {
            "padding": padding, "truncation": truncation, "max_length": max_length,
            "pad_to_multiple_of": multiple, "padding_side": side, "return_tensors": tensors,
        }  # fmt: skip
        found, expected = (result(t, texts_given, **options) for t in (ours, theirs))
        if expected is ValueError or found is ValueError:
            assert found is expected, options
        else:
            assert same(found, dict(expected)), options


@settings(PROPERTY, max_examples=60)
@given(
    several=st.lists(texts, min_size=1, max_size=5),
    is_one=st.booleans(),
    options=st.fixed_dictionaries(
        {
            "padding": st.booleans(),
            "truncation": st.booleans(),
            "return_offsets_mapping": st.booleans(),
            "return_attention_mask": st.booleans(),
            "return_token_type_ids": st.booleans(),
            "return_special_tokens_mask": st.booleans(),
            "split_special_tokens": st.booleans(),
            "return_tensors": st.sampled_from([None, "np"]),
        }
    ),
    sides=st.tuples(*[st.sampled_from(["left", "right"])] * 2),
)
def test_any_texts(plain, theirs, several, is_one, options, sides):
    ours = TransformersTokenizer(
        plain, model_max_length=9, padding_side=sides[0], truncation_side=sides[1]
    )
    theirs.padding_side, theirs.truncation_side = sides
    try:
        text = several[0] if is_one else several
        found, expected = (result(t, text, **options) for t in (ours, theirs))
        assert (found is expected) if expected is ValueError else same(found, dict(expected))
    finally:
        theirs.padding_side = theirs.truncation_side = "right"


@pytest.fixture(scope="module")
def with_template(plain, tmp_path_factory):
    """Both tokenizers of a file that puts special tokens around a text."""
    folder = tmp_path_factory.mktemp("template")
    TransformersTokenizer(plain, model_max_length=9).save_pretrained(folder)
    described = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    pieces = [{"SpecialToken": {"id": "<|end|>", "type_id": 0}}] * 2
    pieces += [{"Sequence": {"id": "A", "type_id": 0}}]
    pieces += [{"SpecialToken": {"id": END, "type_id": 0}}]
    described["post_processor"] = {
        "type": "TemplateProcessing",
        "single": pieces,
        "pair": [*pieces, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            token: {"id": token, "ids": [plain.special_tokens[token]], "tokens": [token]}
            for token in ("<|end|>", END)
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(described), encoding="utf-8")
    again = tmp_path_factory.mktemp("again")
    ours = TransformersTokenizer.from_pretrained(folder)
    ours.save_pretrained(again)
    return ours, transformers.AutoTokenizer.from_pretrained(again)


@pytest.mark.parametrize("texts_given", [TEXTS, TEXTS[0], "", ["the"]], ids=repr)
def test_special_tokens_around_a_text(with_template, texts_given):
    ours, theirs = with_template
    grid = itertools.product(
        [True, False],
        [False, True, "max_length"],
        [None, True],
        [None, 3, 5],
        [False, True],
        [None, "np"],
    )
    for added, padding, truncation, max_length, more, tensors in grid:
        options = {
            "add_special_tokens": added, "padding": padding, "truncation": truncation,
            "max_length": max_length, "return_tensors": tensors, "return_offsets_mapping": more,
            "return_special_tokens_mask": more, "return_token_type_ids": more,
        }  # fmt: skip
        found, expected = (result(t, texts_given, **options) for t in (ours, theirs))
        if expected is ValueError or found is ValueError:
            assert found is expected, options
        else:
            assert same(found, dict(expected)), options
    assert same(ours.tokenize("the cat"), theirs.tokenize("the cat"))
    assert ours.num_special_tokens_to_add() == theirs.num_special_tokens_to_add() == 3
    with pytest.raises(ValueError, match="^max_length must be at least 3, for the special tokens"):
        ours("the", max_length=2)


def test_special_tokens_around_a_row(with_template):
    tokenizer = with_template[0].tokenizer
    before, after = [297, 297], [296]
    rows = [[*before, *row, *after] for row in map(tokenizer.encode, TEXTS)]
    ids, offsets = tokenizer.encode_batch_flat(TEXTS, add_special_tokens=True)
    assert [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)] == rows
    assert tokenizer.encode_batch_flat([], add_special_tokens=True)[1].tolist() == [0]
    matrix, mask = tokenizer.encode_batch_padded(TEXTS, add_special_tokens=True)
    assert [row[kept].tolist() for row, kept in zip(matrix, mask, strict=True)] == rows
    cut, _ = tokenizer.encode_batch_padded(TEXTS[:1], 5, truncate="left", add_special_tokens=True)
    assert cut.tolist() == [[*before, *tokenizer.encode(TEXTS[0])[-2:], *after]]
    for truncate in ("error", "right"):
        with pytest.raises(ValueError, match="length"):
            tokenizer.encode_batch_padded([""], 2, truncate=truncate, add_special_tokens=True)


@PROPERTY
@given(text=texts, skip=st.booleans())
def test_tokens_and_texts(plain, theirs, text, skip):
    ours = TransformersTokenizer(plain, model_max_length=9)
    ids = theirs.encode(text)
    for call in (
        lambda t: t.encode(text),
        lambda t: t.tokenize(text),
        lambda t: t.decode(ids, skip_special_tokens=skip),
        lambda t: t.decode(ids, clean_up_tokenization_spaces=False),
        lambda t: t.batch_decode([ids, [], ids], skip_special_tokens=skip),
        lambda t: t.convert_ids_to_tokens(ids, skip_special_tokens=skip),
        lambda t: t.convert_tokens_to_ids(t.tokenize(text)),
        lambda t: t.convert_tokens_to_string(t.tokenize(text)),
        lambda t: t.get_special_tokens_mask(ids, already_has_special_tokens=True),
    ):
        assert same(call(ours), call(theirs))


def test_ids_in_other_forms(ours, theirs):
    ids = ours.encode("the cat sat")
    matrix = [ids[:2], ids[:2]]
    for form in (np.array, torch.tensor):
        for call in (
            lambda t, form=form: t.decode(form(ids)),
            lambda t, form=form: t.decode(form(matrix)),
            lambda t, form=form: t.batch_decode(form(matrix)),
            lambda t, form=form: t.batch_decode([form(ids), form(ids[:1])]),
            lambda t, form=form: t.decode(form(ids)[0]),
            lambda t: t.batch_decode(ids),
            lambda t: t.batch_decode([]),
            lambda t: t.decode([]),
            lambda t: t.decode(257),
            lambda t: t.convert_ids_to_tokens(257),
            lambda t: t.convert_tokens_to_ids("the"),
            lambda t: t.convert_tokens_to_ids(["the", "none", END]),
            lambda t: t.convert_tokens_to_ids("none"),
        ):
            assert same(call(ours), call(theirs))


def test_what_is_known_of_the_vocabulary(ours, theirs):
    for name in (
        "vocab_size", "all_special_tokens", "all_special_ids", "special_tokens_map", "is_fast",
        "bos_token", "bos_token_id", "eos_token", "eos_token_id", "pad_token", "pad_token_id",
        "unk_token", "unk_token_id", "cls_token", "cls_token_id", "sep_token_id", "mask_token_id",
        "model_max_length", "padding_side", "truncation_side", "model_input_names",
    ):  # fmt: skip
        assert same(getattr(ours, name), getattr(theirs, name)), name
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.get_added_vocab() == theirs.get_added_vocab()
    assert len(ours) == len(theirs)
    assert ours.num_special_tokens_to_add() == theirs.num_special_tokens_to_add()


def test_tokens_with_a_use_can_be_set(plain, ours, theirs, tmp_path):
    theirs = copy.deepcopy(theirs)
    for tokenizer in (ours, theirs):
        tokenizer.pad_token = "<|end|>"
        tokenizer.unk_token = tokenizer.pad_token
        tokenizer.eos_token_id = plain.special_tokens["<|a b|>"]
        tokenizer.bos_token = None
    for name in ("pad_token_id", "unk_token_id", "eos_token", "bos_token_id", "special_tokens_map"):
        assert getattr(ours, name) == getattr(theirs, name)
    for call in (
        lambda t: t(TEXTS, padding=True),
        lambda t: t.convert_tokens_to_ids(["the", "none"]),
        lambda t: t.all_special_ids,
    ):
        assert same(call(ours), call(theirs))
    ours.save_pretrained(tmp_path)
    again = TransformersTokenizer.from_pretrained(tmp_path)
    assert again.special_tokens_map == ours.special_tokens_map
    assert again.model_max_length == 9
    with pytest.raises(ValueError, match=r"^pad_token must be a special token of this tokenizer"):
        ours.pad_token = "<pad>"
    ours.pad_token = None
    with pytest.raises(ValueError, match="^padding needs a pad_token"):
        ours(TEXTS, padding=True)


FEATURES = [
    {"input_ids": [[1, 2], [3]]},
    {"input_ids": [[1, 2], [3]], "attention_mask": [[1, 1], [1]], "token_type_ids": [[0, 1], [1]]},
    {"input_ids": [[1, 2], [3, 4]], "labels": [[1, 2], [3, 4]]},
    {"input_ids": [[1], [3]], "special_tokens_mask": [[0], [1]], "label": [0, 1]},
    {"input_ids": [1, 2, 3]},
    [{"input_ids": [1, 2]}, {"input_ids": [3]}],
    [{"input_ids": np.array([1, 2])}, {"input_ids": np.array([3])}],
    [{"input_ids": torch.tensor([1, 2])}, {"input_ids": torch.tensor([3])}],
    {"input_ids": [[3], []]},
    {"input_ids": [[3], [4]], "label": [0.5, 1.0], "is_last": [False, True]},
]


@pytest.mark.parametrize("features", FEATURES, ids=repr)
def test_pad(ours, theirs, features):
    grid = itertools.product([True, "max_length", False], [None, 2, 7], [None, 4], [None, "left"], ["np", "pt", None])  # fmt: skip
    for padding, max_length, multiple, side, tensors in grid:
        options = {
            "padding": padding, "max_length": max_length, "pad_to_multiple_of": multiple,
            "padding_side": side, "return_tensors": tensors,
        }  # fmt: skip
        found = result(ours.pad, copy.deepcopy(features), **options)
        expected = result(theirs.pad, copy.deepcopy(features), **options)
        if expected is ValueError or found is ValueError:
            assert found is expected, options
        else:
            assert same(found, dict(expected)), options


def test_pad_leaves_what_it_is_given(ours):
    features = {"input_ids": [[1, 2], [3]], "attention_mask": [[1, 1], [1]]}
    before = copy.deepcopy(features)
    ours.pad(features, padding="max_length", max_length=5)
    assert features == before


def test_collators_of_transformers_take_it(ours, theirs):
    rows = [{"input_ids": ids} for ids in ours(TEXTS[2:])["input_ids"]]
    for collator, options in (
        (transformers.DataCollatorWithPadding, {"padding": "longest"}),
        (transformers.DataCollatorForLanguageModeling, {"mlm": False}),
    ):
        found, expected = (collator(t, **options)(copy.deepcopy(rows)) for t in (ours, theirs))
        assert same(found, dict(expected))


def test_the_result_is_a_mapping_with_attributes(ours):
    found = ours(TEXTS, padding=True, return_tensors="pt")
    assert found.input_ids is found["input_ids"]
    assert found.to("cpu") is found
    assert dict(**found).keys() == {"input_ids", "attention_mask"}
    assert found.to(torch.device("meta")).attention_mask.is_meta
    with pytest.raises(AttributeError, match="^expected one of input_ids, attention_mask: got 'x'"):
        _ = found.x
    assert pickle.loads(pickle.dumps(BatchEncoding(a=1))).a == 1
    assert copy.deepcopy(BatchEncoding(a=1)).a == 1
    huge = ours(TEXTS, padding=True, truncation=True, max_length=1 << 70, return_tensors="pt")
    assert torch.equal(huge.input_ids, ours(TEXTS, padding=True, return_tensors="pt").input_ids)
    assert list(ours.batch_decode(iter([[97], [98]]))) == ["a", "b"]
    assert ours([]) == {"input_ids": [], "attention_mask": []}
    assert ours([], return_tensors="np").input_ids.shape == (0, 0)


def test_saved_files_are_read_and_not_replaced_by_others(plain, ours, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    paths = ours.save_pretrained(tmp_path)
    assert paths == (str(tmp_path / "tokenizer.json"), str(tmp_path / "tokenizer_config.json"))
    assert ours.save_pretrained(str(tmp_path)) == paths
    assert Tokenizer.load(tmp_path) == plain
    other = TransformersTokenizer(plain, model_max_length=10)
    with pytest.raises(FileExistsError, match=r"tokenizer_config\.json"):
        other.save_pretrained(tmp_path)
    assert TransformersTokenizer.from_pretrained(tmp_path).model_max_length == 9
    other.save_pretrained(tmp_path, replace=True)
    assert TransformersTokenizer.from_pretrained(tmp_path).model_max_length == 10
    given_one = TransformersTokenizer.from_pretrained(tmp_path, model_max_length=11)
    assert (given_one.model_max_length, given_one.name_or_path) == (11, str(tmp_path))
    assert (tmp_path / "model.safetensors").read_bytes() == b"weights"


def test_settings_that_transformers_wrote_are_read(theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    ours = TransformersTokenizer.from_pretrained(tmp_path)
    assert (ours.special_tokens_map, ours.model_max_length) == (theirs.special_tokens_map, 9)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["eos_token"] = {"content": "<|end|>", "special": True, "__type": "AddedToken"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert TransformersTokenizer.from_pretrained(tmp_path).eos_token == "<|end|>"
    config["eos_token"] = "<none>"  # an argument takes its place
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert TransformersTokenizer.from_pretrained(tmp_path, eos_token=END).eos_token == END
    with pytest.raises(ValueError, match="^eos_token must be a special token"):
        TransformersTokenizer.from_pretrained(tmp_path, eos_token="<other>")
    with pytest.raises(TypeError, match="unexpected keyword argument 'use_fast'"):
        TransformersTokenizer.from_pretrained(tmp_path, eos_token=END, use_fast=True)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"eos_token": "<none>"}, "eos_token must be a special token of this tokenizer"),
        ({"eos_token": 5}, "eos_token must be a special token of this tokenizer"),
        ({"padding_side": "up"}, "padding_side must be 'right' or 'left': got 'up'"),
        ({"model_max_length": "9"}, "model_max_length must be an integer: got '9'"),
        ([], "expected a JSON object, got a list"),
    ],
)
def test_settings_that_are_none_are_told_with_their_file(ours, tmp_path, config, message):
    ours.save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"tokenizer_config\.json: {message}"):
        TransformersTokenizer.from_pretrained(tmp_path)


def test_without_end_of_text_no_token_has_a_use():
    vocab = {byte: bytes([byte]) for byte in range(256)}
    ours = TransformersTokenizer(Tokenizer(vocab, []))
    assert (ours.special_tokens_map, ours.eos_token_id, ours.all_special_ids) == ({}, None, [])
    assert ours("a", truncation=True, padding="max_length")["input_ids"] == [97]
    assert "vocab_size=256" in repr(ours)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"text": None}, TypeError, "expected several texts, got NoneType"),
        ({"text": 5}, TypeError, "expected several texts, got int"),
        ({"text": b"a"}, TypeError, "expected several texts, got one bytes"),
        ({"text": ["a", None]}, TypeError, "expected a text as str, got NoneType"),
        ({"text": [["a", "b"]]}, TypeError, "expected a text as str, got list"),
        ({"text": [5]}, TypeError, "expected a text as str, got int"),
        ({"text": {"a"}}, TypeError, "expected several texts, got a set"),
        ({"text": "a\ud800"}, ValueError, "lone surrogate"),
        ({"text": "a\ud800", "return_offsets_mapping": True}, ValueError, "lone surrogate"),
        ({"padding": "all"}, ValueError, "padding must be true, false or one of 'do_not_pad'"),
        ({"padding": None}, ValueError, "padding must be true, false or one of 'do_not_pad'"),
        ({"truncation": 1}, ValueError, "truncation must be true, false or one of 'do_not_tr"),
        ({"max_length": -1}, ValueError, "max_length must be at least 0: got -1"),
        ({"max_length": "3"}, TypeError, "max_length must be an integer: got '3'"),
        ({"max_length": True}, TypeError, "max_length must be an integer: got True"),
        ({"pad_to_multiple_of": 0, "padding": True}, ValueError, "pad_to_multiple_of must be at l"),
        ({"padding_side": "up"}, ValueError, "padding_side must be 'right' or 'left': got 'up'"),
        ({"return_tensors": "tf"}, ValueError, "return_tensors must be 'pt' or 'np': got 'tf'"),
        ({"text": ["a", "the cat"], "return_tensors": "pt"}, ValueError, "rows of a tensor must h"),
        ({"text_pair": "a"}, TypeError, "unexpected keyword argument 'text_pair'"),
    ],
    ids=repr,
)  # fmt: skip
def test_arguments_out_of_range_are_refused(ours, arguments, error, message):
    with pytest.raises(error, match=message) as raised:
        ours(**{"text": "a"} | arguments)
    assert "\n" not in str(raised.value)


def test_other_arguments_out_of_range_are_refused(plain, ours):
    for make, message in (
        (lambda: TransformersTokenizer("gpt2"), "expected a Tokenizer, got str: from_pretrained"),
        (lambda: ours.decode([300]), "token ids must be 0 to 299: got 300"),
        (lambda: ours.decode("a"), "expected token ids as integers, got str"),
        (lambda: ours.decode([True]), "expected token ids as integers, got bool"),
        (lambda: ours.convert_ids_to_tokens([-1]), "token ids must be 0 to 299: got -1"),
        (lambda: ours.convert_tokens_to_string(["none"]), "'none' is not one of the 300 tokens"),
        (
            lambda: ours.decode(torch.empty(2, device="meta")),
            "expected values, got a tensor on the",
        ),
        (lambda: ours.convert_ids_to_tokens(b"a"), "expected token ids as integers, got bytes"),
        (lambda: ours.convert_ids_to_tokens({97}), "expected a row of token ids, got a set"),
        (lambda: ours.convert_tokens_to_ids([5]), "expected a text as str, got int"),
        (lambda: ours.convert_tokens_to_ids({"a"}), "expected tokens, got a set, whose order"),
        (lambda: ours.get_special_tokens_mask([300]), "token ids must be 0 to 299: got 300"),
        (
            lambda: TransformersTokenizer(plain, model_max_length=0),
            "model_max_length must be at le",
        ),
        (lambda: ours.pad([[1]]), "expected features of a text in a dict, got list"),
        (lambda: ours.pad({"a"}), "expected features of several texts, got a set"),
        (
            lambda: ours.pad([{"input_ids": [1], "label": 0}, {"input_ids": [1]}]),
            r"expected the same features of each text: got \['input_ids', 'label'\] and \['input_ids",
        ),
        (lambda: ours.pad({"a": [1]}), r"expected input_ids among what to pad: got \['a'\]"),
        (lambda: TransformersTokenizer(plain, padding_side="up"), "padding_side must be 'right'"),
    ):
        with pytest.raises((ValueError, TypeError), match=f"^{message}"):
            make()
    with pytest.warns(UserWarning, match="max_length has no effect with padding=True and no trunc"):
        ours(SPECIAL, padding=True, max_length=3)
