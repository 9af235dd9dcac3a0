"""Two matrices held equal train as one, then part with what the optimizer knew of it."""

import dataclasses

import pytest
import torch

from fastlm.config import ModelConfig
from fastlm.model import TransformerLM, init_weights
from fastlm.ops import torch_ops
from fastlm.optim import AdamW
from fastlm.train.tying import Tie

SMALL = ModelConfig(vocab_size=31, context_length=16, n_layers=1, d_model=16, n_heads=2)


def build(tied: bool) -> TransformerLM:
    model = TransformerLM(dataclasses.replace(SMALL, tie_weights=tied), ops=torch_ops)
    init_weights(model, 0)
    return model


def step(model, optimizer, seed, tie=None):
    ids = torch.randint(0, 31, (2, 17), generator=torch.Generator().manual_seed(seed))
    loss = model.loss(ids[:, :-1], ids[:, 1:])
    loss.backward()
    if tie is not None:
        tie.before_step()
    optimizer.step()
    optimizer.zero_grad()
    if tie is not None:
        tie.after_step()
    return loss.item()


def test_held_equal_they_train_as_one_matrix():
    one, two = build(tied=True), build(tied=False)
    state = one.state_dict()
    two.load_state_dict(state | {"lm_head.weight": state["token_embeddings.weight"]})
    tie = Tie(two.lm_head.weight, two.token_embeddings.weight)
    optimizers = [AdamW(m.parameters(), 1e-2, weight_decay=0.1) for m in (one, two)]
    for i in range(20):
        assert step(one, optimizers[0], i) == pytest.approx(
            step(two, optimizers[1], i, tie), rel=1e-5
        )
    torch.testing.assert_close(two.lm_head.weight, one.token_embeddings.weight)
    assert torch.equal(two.lm_head.weight, two.token_embeddings.weight)


def test_untied_they_part_from_the_same_state():
    model = build(tied=False)
    tie = Tie(model.lm_head.weight, model.token_embeddings.weight)
    tie.after_step()
    optimizer = AdamW(model.parameters(), 1e-2)
    for i in range(3):
        step(model, optimizer, i, tie)
    assert model.token_embeddings.weight not in optimizer.state
    tie.untie([optimizer])
    head, embedding = (
        optimizer.state[w] for w in (model.lm_head.weight, model.token_embeddings.weight)
    )
    assert head["step"] == embedding["step"] == 3
    assert torch.equal(head["exp_avg"], embedding["exp_avg"])
    assert head["exp_avg"] is not embedding["exp_avg"]
    step(model, optimizer, 3, tie)
    assert not torch.equal(model.lm_head.weight, model.token_embeddings.weight)
    before = {name: t.clone() for name, t in embedding.items() if name != "step"}
    tie.untie([optimizer])  # again: nothing more
    assert all(torch.equal(embedding[name], t) for name, t in before.items())


def test_matrices_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"of one shape can be tied: got \(2, 3\) and \(3, 2\)"):
        Tie(torch.zeros(2, 3), torch.zeros(3, 2))
