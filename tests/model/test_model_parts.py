"""Each option of the network follows its formula, done by hand, and changes nothing else."""

import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

from fastlm.config import ModelConfig
from fastlm.model import TransformerLM, init_weights
from fastlm.model.ngrams import NgramEmbedding
from fastlm.ops import torch_ops

SMALL = ModelConfig(vocab_size=97, context_length=32, n_layers=4, d_model=48, n_heads=4)


def build(**change) -> TransformerLM:
    model = TransformerLM(dataclasses.replace(SMALL, **change), ops=torch_ops)
    init_weights(model, 0)
    return model


def token_ids(*shape: int) -> torch.Tensor:
    return torch.randint(0, 97, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("part", ["attention_gate", "unet_skip", "backout"])
def test_parts_that_start_closed_leave_the_plain_network(part):
    plain, model = build(), build(**{part: True})
    model.load_state_dict(plain.state_dict(), strict=False)
    ids = token_ids(2, 16)
    torch.testing.assert_close(model(ids), plain(ids))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name not in dict(plain.named_parameters()):
                p.add_(0.5)
    assert not torch.allclose(model(ids), plain(ids), atol=1e-3)


def test_with_zero_projections_a_token_sees_itself_alone():
    model = build(zero_init=True)
    ids = token_ids(1, 8)
    found = model(ids)
    for i in range(8):
        torch.testing.assert_close(found[:, i : i + 1], model(ids[:, i : i + 1]))
    assert all(p.grad is None for p in model.parameters())
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    assert model.layers[0].ffn.w2.weight.grad.abs().max() > 0  # and yet it learns


def test_residual_and_x0_scalars_mix_as_written():
    model = build(zero_init=True, residual_scalars=True, x0_scalars=True, embedding_norm=True)
    torch.testing.assert_close(model.residual_scalars, torch.linspace(1.15, 1.05, 4))
    torch.testing.assert_close(model.x0_scalars, torch.linspace(0.20, 0.05, 4))
    ids = token_ids(2, 8)
    x0 = F.rms_norm(model.token_embeddings.weight[ids], (48,), eps=1e-5)
    x = x0
    for r, s in zip(model.residual_scalars, model.x0_scalars, strict=True):
        x = r * x + s * x0
    torch.testing.assert_close(model.hidden(ids), F.rms_norm(x, (48,), eps=1e-5))


def test_the_skip_and_backout_join_the_layers_they_name():
    model = build(zero_init=True, unet_skip=True, backout=True, norm="none")
    with torch.no_grad():
        model.skip_scalar.fill_(0.5)
        model.backout_scalar.fill_(0.25)
    seen = []
    for layer in model.layers:
        layer.register_forward_hook(lambda module, args, out: seen.append((args[0], out)))
    ids = token_ids(2, 8)
    hidden = model.hidden(ids)
    torch.testing.assert_close(seen[2][0], seen[1][1] + 0.5 * seen[1][1])  # layer 1 into layer 2
    torch.testing.assert_close(hidden, seen[3][1] - 0.25 * seen[2][1])


def test_normed_queries_and_keys_do_not_depend_on_the_size_of_their_weights():
    model = build(qk_norm=True, norm_gain=False)
    ids = token_ids(2, 16)
    before = model(ids)
    with torch.no_grad():
        for layer in model.layers:
            layer.attn.qkv_weight[:2] *= 7
    torch.testing.assert_close(model(ids), before, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        model.layers[0].attn.qkv_weight[2] *= 7
    assert not torch.allclose(model(ids), before, atol=1e-2)


def test_value_embeddings_are_in_every_other_layer_the_last_included():
    model = build(value_embeddings=True)
    assert list(model.value_embeddings) == ["1", "3"]
    assert [layer.attn.value_gate is not None for layer in model.layers] == [0, 1, 0, 1]
    assert list(build(value_embeddings=True, n_layers=3).value_embeddings) == ["0", "2"]


def test_a_value_embedding_is_added_to_the_values_times_its_gate():
    """Attention over one token returns its value, so the table's row shows in the result."""
    model = build(value_embeddings=True, n_layers=1, norm="none", position="none")
    attention, table = model.layers[0].attn, model.value_embeddings["0"].weight
    with torch.no_grad():
        attention.value_gate.weight.normal_(generator=torch.Generator().manual_seed(0))
    ids = token_ids(3, 1)
    x = model.token_embeddings.weight[ids]
    gate = 2 * torch.sigmoid(x[..., :32] @ attention.value_gate.weight.T)  # (3, 1, head)
    value = x @ attention.qkv_weight[2].T + gate.repeat_interleave(12, -1) * table[ids]
    found = attention(x, value_embedding=table[ids])
    torch.testing.assert_close(found, value @ attention.output_proj.weight.T)


def test_capped_logits_stay_below_the_cap_and_the_loss_is_theirs():
    model, plain = build(logit_softcap=2.0), build()
    with torch.no_grad():
        for m in (model, plain):
            m.token_embeddings.weight.mul_(30)
    ids = token_ids(2, 17)
    logits = model(ids[:, :-1])
    torch.testing.assert_close(logits, 2 * torch.tanh(plain(ids[:, :-1]) / 2))
    assert logits.abs().max() <= 2
    torch.testing.assert_close(
        model.loss(ids[:, :-1], ids[:, 1:]),
        F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()),
    )


def test_gains_can_be_left_out():
    names = dict(build(norm_gain=False, qk_norm=True).named_parameters())
    assert not any("norm" in name or "ln" in name for name in names)


class TestNgrams:
    def tables(self, **change) -> NgramEmbedding:
        return NgramEmbedding(dataclasses.replace(SMALL, **{"ngram_rows": 10_007} | change))

    def test_rows_depend_on_the_last_two_and_three_tokens_alone(self):
        tables, ids = self.tables(), token_ids(1, 20)
        before = tables.indices(ids)
        changed = ids.clone()
        changed[0, 9] = (ids[0, 9] + 1) % 97
        for n, a, b in zip((2, 3), before, tables.indices(changed), strict=True):
            assert (a != b).nonzero()[:, 1].tolist() == list(range(9, 9 + n))

    def test_the_same_ngram_has_the_same_row_wherever_it_stands(self):
        ids = torch.tensor([[5, 6, 7, 1, 5, 6, 7]])
        pairs, triples = self.tables().indices(ids)
        assert pairs[0, 1] == pairs[0, 5]
        assert triples[0, 2] == triples[0, 6]
        assert triples[0, 1] != triples[0, 5]  # (nothing, 5, 6) and (1, 5, 6)

    def test_what_stands_before_may_come_separately(self):
        tables, ids = self.tables(), token_ids(2, 20)
        whole = tables.indices(ids)
        for cut in (1, 2, 7):
            after = tables.indices(ids[:, cut:], before=ids[:, :cut][:, -2:])
            for a, b in zip(whole, after, strict=True):
                assert torch.equal(a[:, cut:], b)

    def test_rows_are_spread_evenly(self):
        """All pairs of 97 tokens over as many rows as pairs: a random function fills 63 %."""
        a, b = torch.meshgrid(torch.arange(97), torch.arange(97), indexing="ij")
        pairs, _ = self.tables(ngram_rows=9409).indices(torch.stack([a, b], -1).reshape(-1, 2))
        share = pairs[:, 1].unique().numel() / 9409
        assert 0.6 < share <= 1

    def test_large_vocabularies_do_not_overflow(self):
        tables = self.tables(vocab_size=1 << 20)
        ids = torch.full((1, 5), (1 << 20) - 1)
        for indices in tables.indices(ids):
            assert 0 <= indices.min() <= indices.max() < 10_007

    @pytest.mark.parametrize("width", ["auto", 20])
    def test_the_gradient_of_looked_up_rows_is_that_of_the_tables(self, width):
        model = build(ngram_rows=50, ngram_width=width)
        ids = token_ids(2, 17)
        inputs, targets = ids[:, :-1], ids[:, 1:]
        model.loss(inputs, targets).backward()
        indices = model.ngrams.indices(inputs)
        rows = [r.detach().requires_grad_() for r in model.ngrams.rows(indices)]
        model.loss(inputs, targets, rows).backward()
        for table, index, row in zip(model.ngrams.tables, indices, rows, strict=True):
            summed = torch.zeros_like(table.weight).index_add_(
                0, index.flatten(), row.grad.flatten(0, 1)
            )
            torch.testing.assert_close(summed, table.weight.grad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logit_softcap": 0.0}, "logit_softcap must be above 0 and finite: got 0.0"),
        ({"logit_softcap": math.inf}, "logit_softcap must be above 0 and finite: got inf"),
        ({"norm_eps": math.inf}, "norm_eps must be above 0 and finite: got inf"),
        ({"n_layers": 10**9}, "n_layers must be at most 10,000: got 1000000000"),
        ({"ngram_rows": -1}, "ngram_rows must be at least 0: got -1"),
        ({"ngram_width": 0}, "ngram_width must be at least 1 or auto: got 0"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)
