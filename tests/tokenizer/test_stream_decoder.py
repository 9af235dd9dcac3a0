"""Ids that come one by one: whole characters, and all together the text that decode gives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_cases import END, PROPERTY, small_tokenizer, texts

from fastlm.tokenizer import Tokenizer
from fastlm.tokenizer.stream_decoder import StreamDecoder


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return small_tokenizer()


def pieces_of(decoder: StreamDecoder, ids: list[int]) -> list[str]:
    return [*map(decoder.add, ids), decoder.end()]


class TestStreamDecoder:
    @PROPERTY
    @given(
        ids=st.lists(st.integers(0, 299), max_size=30),
        errors=st.sampled_from(["replace", "ignore"]),
        skip_special=st.booleans(),
    )
    def test_all_pieces_are_what_decode_gives(self, tokenizer, ids, errors, skip_special):
        decoder = tokenizer.stream_decoder(errors=errors, skip_special=skip_special)
        expected = tokenizer.decode(ids, errors=errors, skip_special=skip_special)
        for _ in range(2):  # after its end it is as new
            assert "".join(pieces_of(decoder, ids)) == expected

    @PROPERTY
    @given(text=texts)
    def test_no_character_is_split(self, tokenizer, text):
        pieces = pieces_of(tokenizer.stream_decoder(errors="strict"), list(text.encode()))
        assert [piece for piece in pieces if piece] == list(text)
        assert pieces[-1] == ""

    def test_a_character_comes_with_its_last_byte(self, tokenizer):
        decoder = tokenizer.stream_decoder()
        assert [decoder.add(byte) for byte in "a😀".encode()] == ["a", "", "", "", "😀"]
        assert [decoder.add(0xE4), decoder.add(97), decoder.end()] == ["", "\ufffda", ""]
        assert [decoder.add(0xE4), decoder.end(), decoder.end()] == ["", "\ufffd", ""]

    def test_a_special_token_that_is_left_out_does_not_end_a_character(self, tokenizer):
        end = tokenizer.special_tokens[END]
        first, second, third = "中".encode()
        ids = [first, end, second, third, end]
        pieces = pieces_of(tokenizer.stream_decoder(skip_special=True), ids)
        assert pieces == ["", "", "", "中", "", ""]
        assert pieces_of(tokenizer.stream_decoder(), [end]) == [END, ""]

    def test_strict_names_the_token(self, tokenizer):
        decoder = tokenizer.stream_decoder(errors="strict")
        for _ in range(2):  # after an error it is as new
            decoder.add(97)
            with pytest.raises(ValueError, match="^tokens must be UTF-8 text: token number 1 nei"):
                decoder.add(0xFF)
        decoder.add(97)
        assert decoder.end() == ""
        with pytest.raises(ValueError, match="token number 0 neither"):
            decoder.add(0xFF)
        decoder.add(0xE4)
        with pytest.raises(ValueError, match="UTF-8 text: the last character has no end; errors="):
            decoder.end()
        assert decoder.end() == ""

    @pytest.mark.parametrize("token_id", ["a", b"a", None, True, 1.0, [97], "97"], ids=repr)
    def test_what_is_no_id_is_refused(self, tokenizer, token_id):
        decoder = tokenizer.stream_decoder()
        decoder.add(0xE4)
        with pytest.raises(TypeError, match="^expected token ids as integers, got "):
            decoder.add(token_id)
        with pytest.raises(ValueError, match="^token ids must be 0 to 299: got 300;"):
            decoder.add(300)
        assert [decoder.add(0xB8), decoder.add(0xAD)] == ["", "中"]  # as if nothing had come
        with pytest.raises(ValueError, match='errors must be "replace"'):
            tokenizer.stream_decoder(errors="none")
