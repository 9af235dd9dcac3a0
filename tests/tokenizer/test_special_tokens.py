"""Special tokens that are allowed, disallowed or left out, wherever text is encoded or decoded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_cases import END, PROPERTY, SPECIAL, small_tokenizer, texts

from fastlm.tokenizer import Tokenizer
from fastlm.tokenizer.bpe import reference

pytestmark = pytest.mark.usefixtures("path_taken")


@pytest.fixture(scope="module")
def tokenizer(path_taken) -> Tokenizer:
    return small_tokenizer()


class TestSpecialTokens:
    """Allowed tokens become ids, disallowed ones are errors, and all others are plain text."""

    @PROPERTY
    @given(text=texts, allowed=st.sets(st.sampled_from(SPECIAL)))
    def test_only_allowed_ones_become_ids(self, tokenizer, text, allowed):
        ids = tokenizer.encode(text, allowed_special=allowed)
        assert [tokenizer.vocab[i] for i in ids] == reference.encode(
            text, tokenizer.merges, sorted(allowed)
        )
        assert tokenizer.decode(ids) == text
        options = {"allowed_special": allowed}
        assert tokenizer.encode_to_numpy(text, **options).tolist() == ids
        assert tokenizer.encode_to_numpy(text.encode(), **options).tolist() == ids
        assert tokenizer.encode_batch([text], **options) == [ids]
        assert list(tokenizer.encode_iterable(list(text), **options)) == ids
        assert tokenizer.encode_with_offsets(text, **options)[0] == ids

    @PROPERTY
    @given(text=texts, allowed=st.sets(st.sampled_from(SPECIAL)))
    def test_all_others_can_be_disallowed(self, tokenizer, text, allowed):
        others = set(SPECIAL) - allowed
        options = {"allowed_special": allowed, "disallowed_special": "all"}
        if any(token in text for token in others):
            with pytest.raises(ValueError, match=r"must not hold the special token"):
                tokenizer.encode(text, **options)
            with pytest.raises(ValueError, match=r"must not hold the special token"):
                list(tokenizer.encode_iterable(list(text), **options))
        else:
            ids = tokenizer.encode(text, allowed_special=allowed)
            assert tokenizer.encode(text, **options) == ids
            assert list(tokenizer.encode_iterable(list(text), **options)) == ids

    def test_error_names_token_and_character(self, tokenizer):
        text = f"中文 the{END}"
        message = r"the text must not hold the special token '<\|endoftext\|>': found it at character 6; name it in allowed_special"
        for given_text in (text, text.encode()):
            with pytest.raises(ValueError, match=message):
                tokenizer.encode_to_numpy(given_text, disallowed_special={END})
        with pytest.raises(ValueError, match=message):
            tokenizer.encode(text, allowed_special={"<|end|>"}, disallowed_special="all")
        with pytest.raises(ValueError, match=message):
            tokenizer.encode_with_offsets(text, disallowed_special=[END])
        with pytest.raises(ValueError, match=r"^text 300 must not hold"):
            tokenizer.encode_batch(["the"] * 300 + [text], disallowed_special=[END])
        assert tokenizer.encode(text, disallowed_special="all") == tokenizer.encode(text)

    def test_place_in_a_stream_is_counted_from_its_begin(self, tokenizer):
        lines = ["中文 the cat\n"] * 10_000
        stream = tokenizer.encode_iterable([*lines, END], disallowed_special=[END])
        with pytest.raises(ValueError, match=r"at character 110000;"):
            list(stream)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"allowed_special": END},
                r"allowed_special must be \"all\" or a set .* got '<\|endof",
            ),
            (
                {"allowed_special": ["<x>"]},
                r"allowed_special must name special tokens .* got '<x>'",
            ),
            ({"disallowed_special": "none"}, r"disallowed_special must be \"all\" or a set"),
            ({"disallowed_special": {"<x>"}}, r"disallowed_special must name .* got '<x>'"),
        ],
    )
    def test_choices_are_checked(self, tokenizer, options, message):
        for encode in (
            tokenizer.encode,
            tokenizer.encode_to_numpy,
            tokenizer.encode_iterable,
            tokenizer.encode_batch,
        ):
            with pytest.raises(ValueError, match=message):
                encode("the", **options)

    def test_they_can_be_left_out_of_the_text(self, tokenizer):
        ids = tokenizer.encode(f"the{END}<|end|>cat")
        assert tokenizer.decode(ids, skip_special=True) == "thecat"
        assert tokenizer.decode(np.array(ids), skip_special=True) == "thecat"
        assert tokenizer.decode_bytes(ids, skip_special=True) == b"thecat"
        assert tokenizer.decode(ids, errors="strict", skip_special=True) == "thecat"
        assert tokenizer.decode_batch([ids, [0x41]], skip_special=True) == ["thecat", "A"]
