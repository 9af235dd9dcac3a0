"""Sampling by its definition, the KV cache against none, and text that is whole characters."""

import itertools

import pytest
import torch

from fastlm.config import ModelConfig
from fastlm.generate import generate, generate_text, next_token_probabilities
from fastlm.model import TransformerLM, init_weights
from fastlm.ops import torch_ops
from fastlm.tokenizer import Tokenizer

LOGITS = torch.log(torch.tensor([0.1, 0.4, 0.2, 0.3]))


@pytest.fixture(scope="module")
def model() -> TransformerLM:
    config = ModelConfig(vocab_size=60, context_length=16, n_layers=2, d_model=32, n_heads=2)
    model = TransformerLM(config, ops=torch_ops)
    init_weights(model, 0)
    with torch.no_grad():
        for p in model.parameters():  # far from uniform, so that greedy choices are clear
            p.mul_(1.5)
    return model.eval()


def close(a: torch.Tensor, expected: list[float]) -> bool:
    return torch.allclose(a, torch.tensor(expected, dtype=a.dtype), atol=1e-6)


def test_probabilities_by_hand():
    assert close(next_token_probabilities(LOGITS), [0.1, 0.4, 0.2, 0.3])
    assert close(next_token_probabilities(LOGITS, top_k=2), [0, 4 / 7, 0, 3 / 7])
    assert close(next_token_probabilities(LOGITS, top_p=0.7), [0, 4 / 7, 0, 3 / 7])
    assert close(next_token_probabilities(LOGITS, top_p=0.71), [0, 4 / 9, 2 / 9, 3 / 9])
    assert close(next_token_probabilities(LOGITS, top_p=1e-9), [0, 1, 0, 0])
    # Temperature 1/2 squares the probabilities.
    squares = [p * p / 0.3 for p in (0.1, 0.4, 0.2, 0.3)]
    assert close(next_token_probabilities(LOGITS, temperature=0.5), squares)


def test_temperature_zero_is_the_limit_of_small_ones():
    greedy = next_token_probabilities(LOGITS, temperature=0)
    assert close(greedy, [0, 1, 0, 0])
    assert close(next_token_probabilities(LOGITS, temperature=1e-300), [0, 1, 0, 0])
    huge = torch.tensor([1e30, 2e30])
    assert close(next_token_probabilities(huge, temperature=0.1), [0, 1])


def test_top_k_keeps_exactly_k_among_equals():
    kept = next_token_probabilities(torch.zeros(10), top_k=3)
    assert close(kept, [1 / 3] * 3 + [0] * 7)


def test_cached_generation_equals_recomputing_everything(model):
    prompt = [3, 14, 15]
    expected = list(prompt)
    for _ in range(13):
        with torch.no_grad():
            expected.append(int(model(torch.tensor([expected]))[0, -1].argmax()))
    assert list(generate(model, prompt, max_tokens=13, temperature=0)) == expected[3:]


def test_generation_goes_on_past_the_context(model):
    """The first token past the context is that of the last half of the text so far."""
    ids = list(generate(model, [1], max_tokens=40, temperature=0))
    assert len(ids) == 40
    text = [1, *ids[:16]]  # 17 tokens: one more than the context holds
    with torch.no_grad():
        expected = int(model(torch.tensor([text[-8:]]))[0, -1].argmax())
    assert ids[16] == expected


def test_a_prompt_longer_than_the_context_is_cut_from_the_left(model):
    prompt = [i % 60 for i in range(50)]
    short = next(generate(model, prompt[-16:], max_tokens=1, temperature=0))
    assert next(generate(model, prompt, max_tokens=1, temperature=0)) == short


def test_seeds_repeat_and_differ(model):
    def run(seed: int) -> list[int]:
        return list(generate(model, [1], max_tokens=12, temperature=2.0, seed=seed))

    assert run(0) == run(0)
    assert len({tuple(run(seed)) for seed in range(5)}) > 1


def test_sampled_frequencies_follow_the_probabilities(model):
    """2,000 draws of one token: within four standard deviations for the likeliest ten."""
    with torch.no_grad():
        p = next_token_probabilities(model(torch.tensor([[5, 6]]))[0, -1])
    n = 2000
    draws = [next(generate(model, [5, 6], max_tokens=1, seed=seed)) for seed in range(n)]
    counts = torch.bincount(torch.tensor(draws), minlength=60)
    for token in p.argsort(descending=True)[:10].tolist():
        spread = (n * p[token] * (1 - p[token])).sqrt()
        assert abs(counts[token] - n * p[token]) < 4 * spread


def test_stop_token_ends_the_text_and_is_not_part_of_it(model):
    ids = list(generate(model, [1], max_tokens=10, temperature=0))
    stop = ids[4]
    expected = list(itertools.takewhile(lambda t: t != stop, ids))
    assert list(generate(model, [1], max_tokens=10, temperature=0, stop_id=stop)) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 2**64}, r"seed must have at most 64 bits, .*: got 18446744073709551616"),
        ({"seed": -(2**63) - 1}, "seed must have at most 64 bits"),
        ({"temperature": -1.0}, "temperature must be at least 0: got -1"),
        ({"temperature": float("nan")}, "temperature must be at least 0"),
        ({"top_k": 0}, "top_k must be at least 1: got 0"),
        ({"top_p": 0.0}, r"top_p must lie in \(0, 1\]: got 0"),
        ({"top_p": 1.5}, "top_p must lie in"),
        ({"max_tokens": -1}, "max_tokens must be at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        next(generate(model, [1], **({"max_tokens": 1} | options)))


def test_text_streams_in_whole_characters():
    """A model that can only say one byte at a time still yields valid text."""
    vocab = {i: bytes([i]) for i in range(256)} | {256: b"<|endoftext|>"}
    tokenizer = Tokenizer(vocab, [], ["<|endoftext|>"])
    config = ModelConfig(vocab_size=257, context_length=16, n_layers=1, d_model=16, n_heads=2)
    model = TransformerLM(config)
    init_weights(model, 0)
    pieces = list(generate_text(model, tokenizer, "", max_tokens=60, temperature=5.0))
    ids = list(generate(model, [256], max_tokens=60, temperature=5.0, stop_id=256))
    assert "".join(pieces) == bytes(ids).decode("utf-8", errors="replace")
    assert any(piece != "\ufffd" for piece in pieces)
