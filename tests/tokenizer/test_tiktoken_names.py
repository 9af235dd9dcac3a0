"""The methods by tiktoken's names give what tiktoken's Encoding of the same vocabulary gives."""

import numpy as np
import pytest
import tiktoken
from hypothesis import given
from tokenizer_cases import END, PROPERTY, SPECIAL, TEXT, texts

from fastlm.tokenizer import Tokenizer, train_bpe_from_documents
from fastlm.tokenizer.bpe import reference

SOME = [END, "<|a b|>"]  # neither begins with the other, which tiktoken leaves undefined


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    vocab, merges = train_bpe_from_documents([TEXT], 298, SOME)
    ordinary = [token for i, token in vocab.items() if token not in {t.encode() for t in SOME}]
    return Tokenizer(dict(enumerate(ordinary)), merges, SOME)


@pytest.fixture(scope="module")
def peer(tokenizer) -> tiktoken.Encoding:
    special = tokenizer.special_tokens
    ranks = {t: i for i, t in tokenizer.vocab.items() if i not in special.values()}
    return tiktoken.Encoding(
        "small", pat_str=reference.PATTERN, mergeable_ranks=ranks, special_tokens=special
    )


def test_numbers_and_sets(tokenizer, peer):
    for name in ("n_vocab", "max_token_value", "eot_token", "special_tokens_set"):
        assert getattr(tokenizer, name) == getattr(peer, name), name
    assert tokenizer.token_byte_values() == peer.token_byte_values()
    for token_id in range(tokenizer.n_vocab):
        assert tokenizer.is_special_token(token_id) == peer.is_special_token(token_id)
    assert not tokenizer.is_special_token(99_999)


@PROPERTY
@given(text=texts)
def test_texts(tokenizer, peer, text):
    ids = tokenizer.encode_ordinary(text)
    assert ids == peer.encode_ordinary(text)
    assert tokenizer.encode_ordinary_batch([text, ""]) == peer.encode_ordinary_batch([text, ""])
    assert tokenizer.encode(text) == peer.encode(text, allowed_special="all")
    assert tokenizer.decode_tokens_bytes(ids) == peer.decode_tokens_bytes(ids)
    assert tokenizer.decode_bytes_batch([ids, []]) == peer.decode_bytes_batch([ids, []])


def test_single_tokens(tokenizer, peer):
    for token_id in range(tokenizer.n_vocab):
        token = tokenizer.decode_single_token_bytes(token_id)
        assert token == peer.decode_single_token_bytes(token_id)
        assert tokenizer.encode_single_token(token) == peer.encode_single_token(token) == token_id
    for text in ("the", END, "<|a b|>"):
        assert tokenizer.encode_single_token(text) == peer.encode_single_token(text)


@pytest.mark.parametrize("error", [KeyError, ValueError])
def test_what_is_not_in_the_vocabulary_is_both_errors(tokenizer, peer, error):
    calls = (
        (lambda t: t.encode_single_token("the cat"), "^'the cat' is not one of the 298 tokens$"),
        (lambda t: t.encode_single_token(b"\xff\xff"), r"^b'\\xff\\xff' is not one of the 298"),
        (lambda t: t.decode_single_token_bytes(298), "^token ids must be 0 to 297: got 298;"),
        (lambda t: t.decode_tokens_bytes([97, 298]), "^token ids must be 0 to 297: got 298;"),
    )
    for call, message in calls:
        with pytest.raises(KeyError):
            call(peer)
        with pytest.raises(error) as raised:
            call(tokenizer)
        assert raised.match(message)
    with pytest.raises(error, match=r"^the tokenizer has no special token <\|endoftext\|>$"):
        _ = Tokenizer({0: b"a"}, []).eot_token


def test_what_is_neither_token_nor_id_is_refused(tokenizer):
    for token in (None, 5, ["the"], bytearray(b"the")):
        with pytest.raises(TypeError, match="^expected a token as str or bytes, got "):
            tokenizer.encode_single_token(token)
    with pytest.raises(ValueError, match="lone surrogate"):
        tokenizer.encode_single_token("\ud800")
    for token_id in ("a", None, True, 1.0, [97]):
        with pytest.raises(TypeError, match="^expected token ids as integers, got "):
            tokenizer.decode_single_token_bytes(token_id)
        with pytest.raises(TypeError, match="^token must be an integer: got "):
            tokenizer.is_special_token(token_id)
    assert tokenizer.decode_single_token_bytes(np.uint16(97)) == b"a"
    for text in (b"the", None):
        with pytest.raises(TypeError, match="^expected a text as str, got "):
            tokenizer.encode_ordinary(text)
    with pytest.raises(ValueError, match="lone surrogate"):
        tokenizer.encode_ordinary("a\ud800")


class TestObject:
    def test_length_and_words(self, tokenizer):
        assert len(tokenizer) == 298 == tokenizer.vocab_size
        assert repr(tokenizer) == (
            f"Tokenizer(vocab_size=298, special_tokens=['{END}', '<|a b|>'], "
            f"hash='{tokenizer.hash[:12]}')"
        )
        vocab = {byte: bytes([byte]) for byte in range(256)}
        many = Tokenizer(vocab, [], [f"<{i}>" for i in range(7)])
        assert "special_tokens=['<0>', '<1>', '<2>', and 4 more]" in repr(many)
        assert bool(Tokenizer({}, []))

    def test_equal_ones_give_the_same_ids(self, tokenizer, tmp_path):
        tokenizer.save(tmp_path)
        same = Tokenizer.load(tmp_path)
        assert same == tokenizer
        assert hash(same) == hash(tokenizer)
        assert len({same, tokenizer}) == 1
        assert tokenizer != Tokenizer(tokenizer.vocab, tokenizer.merges)
        assert tokenizer != Tokenizer(tokenizer.vocab, tokenizer.merges[:-1], SOME)
        assert tokenizer != tokenizer.hash
        assert tokenizer != SPECIAL
