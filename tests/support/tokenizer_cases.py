"""The small tokenizer that several test files share, and texts that are hard for it."""

from hypothesis import settings
from hypothesis import strategies as st

from fastlm.tokenizer import Tokenizer, train_bpe_from_documents

END = "<|endoftext|>"
TEXT = (
    f"the cat sat on the mat, didn't it?\n\n  The end.{END}\nOne more: 中文 😀 the the{END}the end"
    * 3
)
SPECIAL = [END, "<|end|>", f"{END}{END}", "<|a b|>"]

PROPERTY = settings(max_examples=120, deadline=None, derandomize=True)

pieces = st.sampled_from(
    [
        *"the cat sat",
        " ",
        "  ",
        "\n",
        "\u3000",
        "'s",
        "中",
        "😀",
        "é",
        *SPECIAL,
        "<|end",
        "|>",
        "<|a",
        " b|>",
    ]
)
texts = st.lists(st.one_of(pieces, st.text(max_size=3)), max_size=30).map("".join)


def small_tokenizer() -> Tokenizer:
    vocab, merges = train_bpe_from_documents([TEXT], 256 + 40 + len(SPECIAL), SPECIAL)
    return Tokenizer(vocab, merges, SPECIAL)


def assert_same(one: Tokenizer, other: Tokenizer) -> None:
    assert one.vocab == other.vocab
    assert one.merges == other.merges
    assert one.special_tokens == other.special_tokens
    assert one.hash == other.hash
    assert one.encode(TEXT) == other.encode(TEXT)
