"""The network against transformers' Llama, against itself in other forms, and on one batch."""

import dataclasses
import math

import pytest
import torch
from einops import rearrange

from fastlm.accounting import count_parameters
from fastlm.config import ModelConfig
from fastlm.model import (
    Embedding,
    Linear,
    MultiHeadSelfAttention,
    RMSNorm,
    RotaryPositionalEmbedding,
    SwiGLU,
    TransformerLM,
    init_weights,
)
from fastlm.model.layers import undrawn
from fastlm.ops import reference_ops, torch_ops
from fastlm.optim import AdamW

SMALL = ModelConfig(vocab_size=97, context_length=32, n_layers=3, d_model=48, n_heads=4)

VARIANTS = [
    {},
    {"tie_weights": False},
    {"norm": "post"},
    {"norm": "none"},
    {"position": "none"},
    {"ffn": "silu"},
    {"d_ff": 100, "n_heads": 1},
]

LEADERBOARD = {
    "norm_gain": False,
    "embedding_norm": True,
    "qk_norm": True,
    "ffn": "relu2",
    "zero_init": True,
    "residual_scalars": True,
    "x0_scalars": True,
    "value_embeddings": True,
    "attention_gate": True,
    "unet_skip": True,
    "backout": True,
    "logit_softcap": 15.0,
    "ngram_rows": 50,
    "ngram_width": 20,
}
VARIANTS += [
    *({name: value} for name, value in LEADERBOARD.items() if name != "ngram_width"),
    {"qk_norm": True, "position": "none"},
    {"qk_norm": True, "norm_gain": False},
    LEADERBOARD,
]


def build(config: ModelConfig, ops=reference_ops, seed: int = 0) -> TransformerLM:
    model = TransformerLM(config, ops=ops)
    init_weights(model, seed)
    return model


@torch.no_grad()
def stirred(model: TransformerLM) -> TransformerLM:
    """Add noise to the weights: at their initial zeros and ones a part left out would not show."""
    generator = torch.Generator().manual_seed(7)
    for p in model.parameters():
        p.add_(torch.randn(p.shape, generator=generator), alpha=0.05)
    return model


def token_ids(*shape: int, vocab_size: int = 97) -> torch.Tensor:
    return torch.randint(0, vocab_size, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("ops", [reference_ops, torch_ops], ids=["reference", "torch"])
def test_logits_equal_those_of_llama(tied, ops):
    transformers = pytest.importorskip("transformers")
    config = dataclasses.replace(SMALL, tie_weights=tied, d_ff=80, rope_theta=5000.0, norm_eps=1e-4)
    model = build(config, ops)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:  # gains away from 1, so that a forgotten one shows
                p.copy_(torch.linspace(0.5, 1.5, len(p)) + len(name) / 100)
    llama_config = transformers.LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.d_model,
        intermediate_size=80,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.n_heads,
        max_position_embeddings=config.context_length,
        rms_norm_eps=config.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        tie_word_embeddings=tied,
        attention_bias=False,
        attn_implementation="eager",
    )
    llama = transformers.LlamaForCausalLM(llama_config).eval()
    state = model.state_dict()
    renamed = {
        "model.embed_tokens.weight": state["token_embeddings.weight"],
        "model.norm.weight": state["ln_final.weight"],
        "lm_head.weight": state["token_embeddings.weight" if tied else "lm_head.weight"],
    }
    for i in range(config.n_layers):
        ours, theirs = f"layers.{i}.", f"model.layers.{i}."
        for name in ("q", "k", "v"):
            weight = state[f"{ours}attn.{name}_proj.weight"]
            if name != "v":
                # Ours turns neighbours (2k, 2k+1), Llama's turns (k, k + d_head/2).
                weight = rearrange(
                    weight, "(head k two) d -> (head two k) d", head=config.n_heads, two=2
                )
            renamed[f"{theirs}self_attn.{name}_proj.weight"] = weight
        renamed[f"{theirs}self_attn.o_proj.weight"] = state[f"{ours}attn.output_proj.weight"]
        renamed[f"{theirs}mlp.gate_proj.weight"] = state[f"{ours}ffn.w1.weight"]
        renamed[f"{theirs}mlp.up_proj.weight"] = state[f"{ours}ffn.w3.weight"]
        renamed[f"{theirs}mlp.down_proj.weight"] = state[f"{ours}ffn.w2.weight"]
        renamed[f"{theirs}input_layernorm.weight"] = state[f"{ours}ln1.weight"]
        renamed[f"{theirs}post_attention_layernorm.weight"] = state[f"{ours}ln2.weight"]
    llama.load_state_dict(renamed)
    ids = token_ids(3, 32)
    with torch.no_grad():
        difference = (model(ids) - llama(ids).logits).abs().max().item()
    assert difference < 1e-4


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_fast_operations_give_the_same_loss_and_gradients(change):
    config = dataclasses.replace(SMALL, **change)
    truth, fast = stirred(build(config)), stirred(build(config, torch_ops))
    inputs, targets = token_ids(2, 3, 32), token_ids(2, 3, 32).flip(-1)
    losses = [model.loss(inputs, targets) for model in (truth, fast)]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-5)
    for loss in losses:
        loss.backward()
    for (name, p), q in zip(truth.named_parameters(), fast.parameters(), strict=True):
        assert p.grad is not None, name
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.usefixtures("without_code_generation")
@pytest.mark.parametrize(
    "change", [{}, {"norm": "post", "ffn": "silu", "tie_weights": False}, LEADERBOARD], ids=str
)
def test_compiled_loss_is_one_graph_and_equal(change):
    model = stirred(build(dataclasses.replace(SMALL, n_layers=1, **change), torch_ops))
    compiled = torch.compile(model.loss, fullgraph=True, dynamic=False)
    inputs, targets = token_ids(2, 32), token_ids(2, 32).flip(-1)
    loss = compiled(inputs, targets)
    loss.backward()
    grads = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    expected = model.loss(inputs, targets)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(grads, [p.grad for p in model.parameters()], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_parameter_count_is_that_of_the_formula(change):
    config = dataclasses.replace(SMALL, **change)
    assert sum(p.numel() for p in build(config).parameters()) == count_parameters(config)


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_a_later_token_changes_no_earlier_logit(change):
    model = stirred(build(dataclasses.replace(SMALL, **change)))
    ids = token_ids(1, 20)
    changed = ids.clone()
    changed[0, 11] = (ids[0, 11] + 1) % 97
    with torch.no_grad():
        before, after = model(ids), model(changed)
    assert torch.equal(before[:, :11], after[:, :11])
    assert (before[:, 11:] - after[:, 11:]).abs().amax(-1).min() > 0


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_cached_logits_equal_those_of_the_whole_sequence(change):
    model = stirred(build(dataclasses.replace(SMALL, **change), torch_ops))
    ids = token_ids(2, 32)
    caches = model.new_caches(2, 32)
    pieces, at = [], 0
    with torch.no_grad():
        for n in (5, 1, 1, 7, 18):
            positions = torch.arange(at, at + n)
            pieces.append(model(ids[:, at : at + n], positions, caches=caches))
            at += n
        expected = model(ids)
    torch.testing.assert_close(torch.cat(pieces, 1), expected, rtol=1e-4, atol=1e-4)


def test_without_positions_order_of_earlier_tokens_is_lost_and_with_rope_it_is_not():
    ids = token_ids(1, 12)
    shuffled = torch.cat([ids[:, :11].flip(1), ids[:, 11:]], 1)
    one_layer = dataclasses.replace(SMALL, n_layers=1)
    for position, same in (("none", True), ("rope", False)):
        model = build(dataclasses.replace(one_layer, position=position))
        with torch.no_grad():
            close = torch.allclose(model(ids)[:, -1], model(shuffled)[:, -1], atol=1e-5)
        assert close == same


def test_given_positions_replace_the_default_ones():
    model = build(SMALL)
    ids = token_ids(2, 10)
    with torch.no_grad():
        torch.testing.assert_close(model(ids, torch.arange(10).expand(2, 10)), model(ids))
        # Only distances matter to RoPE, so a common shift changes nothing but rounding.
        torch.testing.assert_close(
            model(ids, torch.arange(9, 19)), model(ids), rtol=1e-4, atol=1e-4
        )
        assert not torch.allclose(model(ids, torch.arange(0, 20, 2)), model(ids), atol=1e-3)


def test_state_dict_has_the_documented_names_and_loads_back():
    model = build(dataclasses.replace(SMALL, tie_weights=False))
    names = {"token_embeddings.weight", "ln_final.weight", "lm_head.weight"}
    for i in range(3):
        names |= {f"layers.{i}.attn.{p}_proj.weight" for p in ("q", "k", "v", "output")}
        names |= {f"layers.{i}.ffn.{w}.weight" for w in ("w1", "w2", "w3")}
        names |= {f"layers.{i}.ln{n}.weight" for n in (1, 2)}
    state = model.state_dict()
    assert set(state) == names
    assert state["layers.0.attn.q_proj.weight"].shape == (48, 48)
    other = build(dataclasses.replace(SMALL, tie_weights=False), seed=5)
    other.load_state_dict(state)
    ids = token_ids(1, 8)
    assert torch.equal(other(ids), model(ids))


def test_tied_weights_are_one_parameter_and_a_foreign_head_is_refused():
    model = build(SMALL)
    assert model.output_weight is model.token_embeddings.weight
    assert "lm_head.weight" not in model.state_dict()
    state = dict(model.state_dict())
    model.load_state_dict(state | {"lm_head.weight": state["token_embeddings.weight"].clone()})
    with pytest.raises(ValueError, match="tie_weights=False"):
        model.load_state_dict(state | {"lm_head.weight": state["token_embeddings.weight"] + 1})


def test_initial_weights_have_the_documented_spread_and_cut():
    config = ModelConfig(vocab_size=2000, n_layers=1, d_model=256, n_heads=4, tie_weights=False)
    model = build(config)
    expected = {
        "token_embeddings.weight": 1.0,
        "layers.0.attn.q_proj.weight": (2 / 512) ** 0.5,
        "layers.0.ffn.w1.weight": (2 / (256 + config.ffn_width)) ** 0.5,
        "lm_head.weight": (2 / 2256) ** 0.5,
    }
    state = model.state_dict()
    cut_std = 0.98658  # of a normal distribution cut at 3 standard deviations
    for name, std in expected.items():
        assert state[name].std().item() == pytest.approx(std * cut_std, rel=0.02), name
        assert state[name].abs().max().item() <= 3 * std * 1.0001, name
        assert state[name].abs().max().item() > 2.8 * std, name
    tied = build(dataclasses.replace(config, tie_weights=True))
    assert tied.token_embeddings.weight.std().item() == pytest.approx(256**-0.5 * cut_std, rel=0.02)


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_initialising_fills_all_that_undrawn_layers_leave_open(change, monkeypatch):
    config = dataclasses.replace(SMALL, **change)
    expected = build(config).state_dict()
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **kw: empty(*size, **kw).fill_(math.nan))
    with undrawn():
        model = TransformerLM(config)
    assert any(p.isnan().any() for p in model.parameters())
    init_weights(model, 0)
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_initial_loss_is_that_of_a_uniform_guess():
    """ln V, and half the variance of the logits above it."""
    model = build(dataclasses.replace(SMALL, vocab_size=1000), torch_ops)
    ids = token_ids(4, 33, vocab_size=1000)
    loss = model.loss(ids[:, :-1], ids[:, 1:]).item()
    assert 6.9 < loss < 7.9


def test_same_seed_gives_the_same_weights_and_another_seed_others():
    a, b, c = build(SMALL, seed=3), build(SMALL, seed=3), build(SMALL, seed=4)
    weights = [m.layers[0].ffn.w1.weight for m in (a, b, c)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_model_learns_one_batch_by_heart(optimizer):
    from fastlm.config import OptimConfig
    from fastlm.optim import build_optimizers

    model = build(dataclasses.replace(SMALL, n_layers=2), torch_ops)
    config = OptimConfig(name=optimizer, lr=1e-2, muon_lr=0.02, weight_decay=0.0)
    optimizers = build_optimizers(model, config)
    ids = token_ids(4, 33)
    for _ in range(150):
        loss = model.loss(ids[:, :-1], ids[:, 1:])
        loss.backward()
        for o in optimizers:
            o.step()
            o.zero_grad()
    assert loss.item() < 0.05


def test_gradients_of_four_small_batches_add_up_to_those_of_one_large():
    config = dataclasses.replace(SMALL, context_length=16)
    whole, parts = build(config, torch_ops), build(config, torch_ops)
    ids = token_ids(32, 17)
    whole.loss(ids[:, :-1], ids[:, 1:]).backward()
    for chunk in ids.chunk(4):
        (parts.loss(chunk[:, :-1], chunk[:, 1:]) / 4).backward()
    for p, q in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-7)


def test_bf16_compute_keeps_float32_weights_and_comes_close():
    exact = build(SMALL, torch_ops)
    rounded = TransformerLM(SMALL, ops=torch_ops, compute_dtype=torch.bfloat16)
    rounded.load_state_dict(exact.state_dict())
    ids = token_ids(2, 33)
    loss = rounded.loss(ids[:, :-1], ids[:, 1:])
    loss.backward()
    assert rounded(ids[:, :-1]).dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in rounded.parameters())
    assert loss.item() == pytest.approx(exact.loss(ids[:, :-1], ids[:, 1:]).item(), rel=0.01)


def test_modules_stand_alone_as_in_the_handout():
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    assert Linear(16, 7)(x).shape == (2, 5, 7)
    assert Embedding(11, 16)(torch.tensor([[3]])).shape == (1, 1, 16)
    assert SwiGLU(16, 64)(x).shape == x.shape
    torch.testing.assert_close(
        RMSNorm(16, 1e-5)(x).square().mean(-1), torch.ones(2, 5), rtol=1e-3, atol=1e-3
    )
    rope = RotaryPositionalEmbedding(10_000.0, 8, 64)
    attention = MultiHeadSelfAttention(16, 2, rope=rope)
    positions = torch.arange(5)
    torch.testing.assert_close(attention(x, positions), attention(x))


def test_windows_longer_than_the_context_are_refused():
    with pytest.raises(ValueError, match="context_length=32 tokens: got 33"):
        build(SMALL)(token_ids(1, 33))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="n_heads=5, d_model=48"):
        dataclasses.replace(SMALL, n_heads=5)
    with pytest.raises(ValueError, match="n_heads=3, d_model=16"):
        MultiHeadSelfAttention(16, 3)


def test_adamw_moves_tied_weights_once():
    model = build(SMALL)
    optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    before = model.token_embeddings.weight.detach().clone()
    ids = token_ids(2, 9)
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    optimizer.step()
    moved = (model.token_embeddings.weight - before).abs().max().item()
    assert moved == pytest.approx(1e-3, rel=1e-3)  # the first Adam step is lr in every direction
