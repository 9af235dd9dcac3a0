"""Sampling from a trained model, token by token, with a KV cache."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fastlm.generate.settings import check_sampling
from fastlm.model import TransformerLM
from fastlm.tokenizer.tokenizer import END_OF_TEXT, Tokenizer


def next_token_probabilities(
    logits: Float[Tensor, " vocab_size"],
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
) -> Float[Tensor, " vocab_size"]:
    """softmax(logits / temperature), truncated to the most likely tokens and renormalized.

    Args:
        temperature: 0 puts all probability on the most likely token, the first of several.
        top_k: number of most likely tokens to keep; None keeps all.
        top_p: keep the smallest set of most likely tokens whose total probability reaches this.
    """
    logits = logits.cpu().double()  # in this order: an Apple GPU has no float64
    if temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(), logits.numel()).double()
    # The maximum is subtracted before the division, so that a small temperature cannot overflow.
    probabilities = torch.softmax((logits - logits.max()) / temperature, dim=-1)
    ordered, order = probabilities.sort(descending=True, stable=True)
    if top_k is not None:
        ordered[top_k:] = 0
    ordered /= ordered.sum()
    before = ordered.cumsum(0) - ordered
    ordered[before >= top_p] = 0
    kept = torch.zeros_like(probabilities).scatter(0, order, ordered)
    return kept / kept.sum()


@torch.no_grad()
def generate(
    model: TransformerLM,
    prompt_ids: Sequence[int],
    *,
    max_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    seed: int = 0,
    stop_id: int | None = None,
) -> Iterator[int]:
    """Yield token ids that continue the prompt, until stop_id (not yielded) or max_tokens.

    When the text exceeds the context length, only its last half context is kept as input.

    Raises:
        ValueError: for an empty prompt or settings out of range.
    """
    check_sampling(temperature, top_k, top_p, max_tokens, seed)
    if not prompt_ids:
        raise ValueError("generation needs at least one token to start from")
    context_length = model.config.context_length
    device = model.token_embeddings.weight.device
    rng = torch.Generator().manual_seed(seed)
    ids = list(prompt_ids)[-context_length:]
    caches = model.new_caches(1, context_length)
    unread = len(ids)
    for _ in range(max_tokens):
        if len(ids) > context_length:
            ids = ids[-max(1, context_length // 2) :]
            caches = model.new_caches(1, context_length)
            unread = len(ids)
        positions = torch.arange(len(ids) - unread, len(ids), device=device)
        inputs = torch.tensor([ids[len(ids) - unread :]], device=device)
        logits = model(inputs, positions, caches=caches)[0, -1]
        probabilities = next_token_probabilities(
            logits, temperature=temperature, top_k=top_k, top_p=top_p
        )
        token = int(torch.multinomial(probabilities, 1, generator=rng))
        if token == stop_id:
            return
        yield token
        ids.append(token)
        unread = 1


def generate_text(
    model: TransformerLM,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    seed: int = 0,
) -> Iterator[str]:
    """Yield the continuation of a prompt as text, whole characters at a time.

    An empty prompt starts a new document.
    """
    stop_id = tokenizer.special_tokens.get(END_OF_TEXT)
    prompt_ids = tokenizer.encode(prompt)
    if not prompt_ids and stop_id is not None:
        prompt_ids = [stop_id]
    decoder = tokenizer.stream_decoder()
    for token in generate(
        model,
        prompt_ids,
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        stop_id=stop_id,
    ):
        piece = decoder.add(token)
        if piece:
            yield piece
    rest = decoder.end()
    if rest:
        yield rest
