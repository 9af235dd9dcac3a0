"""Offsets of tokens: the range of characters of a text that each token covers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_cases import END, PROPERTY, small_tokenizer, texts

from fastlm.tokenizer import Tokenizer

pytestmark = pytest.mark.usefixtures("path_taken")


@pytest.fixture(scope="module")
def tokenizer(path_taken) -> Tokenizer:
    return small_tokenizer()


@pytest.fixture(scope="module")
def pairs() -> Tokenizer:
    """Bytes, and three tokens that hold parts of characters."""
    # é = c3 a9, 😀 = f0 9f 98 80
    vocab = {byte: bytes([byte]) for byte in range(256)}
    vocab |= {256: b"a\xc3", 257: b"\xa9\xf0", 258: b"\x98\x80"}
    merges = [(b"a", b"\xc3"), (b"\xa9", b"\xf0"), (b"\x98", b"\x80")]
    return Tokenizer(vocab, merges, [END])


class TestOffsets:
    def test_characters_split_over_tokens(self, pairs):
        # a c3 | a9 || f0 | 9f | 98 80 || space | b : é and 😀 are of different pre-tokens
        ids, offsets = pairs.encode_with_offsets("aé😀 b")
        assert ids == [256, 0xA9, 0xF0, 0x9F, 258, 0x20, 0x62]
        assert offsets == [(0, 2), (1, 2), (2, 3), (2, 3), (2, 3), (3, 4), (4, 5)]
        assert pairs.decode_with_offsets(ids) == ("aé😀 b", [0, 1, 2, 2, 2, 3, 4])

    def test_tokens_over_two_characters(self, pairs):
        # a c3 | a9 f0 | 9f | 98 80: the second token ends é and begins 😀
        assert pairs.decode_with_offsets([256, 257, 0x9F, 258]) == ("aé😀", [0, 1, 2, 2])

    def test_invalid_bytes_count_as_the_characters_put_there(self, pairs):
        # c3 alone is one U+FFFD, and so is f0 9f 98 as a begun character; a9 alone is another.
        ids = [256, 0x62, 0xF0, 0x9F, 0x98, 0xA9 - 0x80, 0xA9, 0xFF, 0x63]
        assert pairs.decode_with_offsets(ids) == (
            "a\ufffdb\ufffd)\ufffd\ufffdc",
            [0, 2, 3, 3, 3, 4, 5, 6, 7],
        )

    def test_special_tokens_and_nothing(self, pairs):
        assert pairs.encode_with_offsets(f"é{END}b")[1] == [(0, 1), (0, 1), (1, 14), (14, 15)]
        assert pairs.encode_with_offsets("") == ([], [])
        assert pairs.decode_with_offsets([]) == ("", [])

    @PROPERTY
    @given(text=texts)
    def test_offsets_hold_each_tokens_bytes(self, tokenizer, text):
        ids, offsets = tokenizer.encode_with_offsets(text)
        assert ids == tokenizer.encode(text)
        assert len(offsets) == len(ids)
        for token_id, (begin, end) in zip(ids, offsets, strict=True):
            assert tokenizer.vocab[token_id] in text[begin:end].encode()
            assert tokenizer.vocab[token_id] not in text[begin + 1 : end].encode()
        decoded, begins = tokenizer.decode_with_offsets(ids)
        assert (decoded, begins) == (text, [begin for begin, _ in offsets])

    @PROPERTY
    @given(data=st.data())
    def test_any_ids_have_offsets_in_their_text(self, tokenizer, data):
        ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
        text, begins = tokenizer.decode_with_offsets(ids)
        assert text == tokenizer.decode(ids)
        for index, begin in enumerate(begins):
            # Up to a token's first byte, that byte included, its text has begin + 1 characters.
            before = tokenizer.decode_bytes(ids[:index]) + tokenizer.vocab[ids[index]][:1]
            assert len(before.decode("utf-8", "replace")) == begin + 1
