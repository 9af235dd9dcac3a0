"""Optimizers against torch's own and against their formulas done by hand."""

import copy
import inspect
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from fastlm import functional
from fastlm.config import ModelConfig, OptimConfig, TrainConfig
from fastlm.config.dicts import from_dict, to_json
from fastlm.model import TransformerLM
from fastlm.ops import torch_ops
from fastlm.optim import SGD, AdaGrad, AdamW, Muon, build_optimizers, clip_gradients, set_schedule
from fastlm.optim.groups import parameter_groups
from fastlm.optim.muon import NorMuon
from fastlm.optim.rows import RowAdaGrad


def after_noisy_steps(make, n_steps: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """Parameters after stochastic gradient steps of a regression; the same noise for every make."""
    rng = torch.Generator().manual_seed(0)
    matrix = nn.Parameter(torch.randn(7, 5, generator=rng).to(dtype))
    vector = nn.Parameter(torch.randn(11, generator=rng).to(dtype))
    optimizer = make([matrix, vector])
    for _ in range(n_steps):
        x, y = (
            torch.randn(16, 5, generator=rng).to(dtype),
            torch.randn(16, 7, generator=rng).to(dtype),
        )
        z = torch.randn(11, generator=rng).to(dtype)
        optimizer.zero_grad()
        (((x @ matrix.T - y) ** 2).mean() + ((vector - z) ** 2).mean()).backward()
        optimizer.step()
    return [matrix.detach(), vector.detach()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("lr", "weight_decay"), [(1e-3, 0.1), (1e-2, 0.0), (1e-2, 0.5)])
def test_adamw_equals_torch_over_1000_steps(dtype, lr, weight_decay):
    options = {"lr": lr, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": weight_decay}
    ours = after_noisy_steps(lambda p: AdamW(p, **options), 1000, dtype)
    theirs = after_noisy_steps(lambda p: torch.optim.AdamW(p, **options), 1000, dtype)
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max().item() < 1e-5


def test_adagrad_equals_torch():
    ours = after_noisy_steps(lambda p: AdaGrad(p, 0.1), 300, torch.float64)
    theirs = after_noisy_steps(lambda p: torch.optim.Adagrad(p, 0.1), 300, torch.float64)
    torch.testing.assert_close(ours, theirs)


def test_sgd_with_momentum_equals_torch():
    ours = after_noisy_steps(lambda p: SGD(p, 0.01, momentum=0.9), 300, torch.float64)
    theirs = after_noisy_steps(lambda p: torch.optim.SGD(p, 0.01, momentum=0.9), 300, torch.float64)
    torch.testing.assert_close(ours, theirs)


def test_sgd_with_falling_rate_divides_by_the_root_of_the_step():
    p = nn.Parameter(torch.tensor([10.0]))
    optimizer = SGD([p], lr=1.0, inverse_sqrt=True)
    expected = 10.0
    for t in range(4):
        p.grad = torch.tensor([1.0])
        optimizer.step()
        expected -= 1.0 / math.sqrt(t + 1)
        assert p.item() == pytest.approx(expected)


@pytest.mark.parametrize("applies", [None, True, False])
def test_adamw_heeds_the_layout_and_the_dtype_of_each_tensor(applies):
    """Also of views: nothing beside them changes."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    whole = random(6, 8)
    plain, part, turned, short = random(6, 7), whole[:, :7], random(7, 6).T, random(6, 7).bfloat16()
    params = [plain, part, turned, short, random(0, 7)]
    grads = [random(7, 6).T, random(6, 7), random(1, 1).expand(6, 7), random(6, 7), random(0, 7)]
    firsts = [random(*p.shape) for p in params]
    seconds = [random(*p.shape).square() for p in params]
    flag = None if applies is None else torch.tensor(applies)
    if applies is False:
        grads = [torch.zeros_like(grad) for grad in grads]
    options = {
        "lr": 0.1, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1, "step": 3,
        "applies": flag,
    }  # fmt: skip
    expected = [[t.clone() for t in tensors] for tensors in (params, firsts, seconds)]
    functional.adamw(expected[0], grads, *expected[1:], **options)
    beside = whole[:, 7].clone()
    torch_ops.adamw(params, grads, firsts, seconds, **options)
    for found, wanted in zip((params, firsts, seconds), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert torch.equal(whole[:, 7], beside)
    torch_ops.adamw([], [], [], [], **options)


def test_adamw_second_step_by_hand():
    p = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = AdamW([p], lr=0.1, betas=(0.9, 0.99), eps=1e-3, weight_decay=0.2)
    theta, m, v = 1.0, 0.0, 0.0
    for t, g in ((1, 2.0), (2, -1.0)):
        p.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        rate = 0.1 * math.sqrt(1 - 0.99**t) / (1 - 0.9**t)
        theta = theta - 0.1 * 0.2 * theta - rate * m / (math.sqrt(v) + 1e-3)
        assert p.item() == pytest.approx(theta, abs=1e-12)


@pytest.mark.parametrize("make", [SGD, AdaGrad, AdamW, Muon, NorMuon])
def test_rates_that_are_no_rates_are_refused(make):
    for lr in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="lr must be finite"):
            make([nn.Parameter(torch.zeros(2, 2))], lr)


def test_optimizer_state_continues_where_it_was_saved():
    for make in (
        lambda p: SGD(p, 0.1, momentum=0.9, inverse_sqrt=True),
        lambda p: AdaGrad(p, 0.1),
        lambda p: AdamW(p, 0.1),
        lambda p: Muon(p, 0.1),
        lambda p: NorMuon(p, 0.1, cautious=True, weight_decay=0.1),
    ):
        a, b = nn.Parameter(torch.eye(3)), nn.Parameter(torch.eye(3))
        first, second = make([a]), make([b])
        grads = torch.randn(6, 3, 3, generator=torch.Generator().manual_seed(0))
        for g in grads[:3]:
            a.grad = g
            first.step()
        # torch's load_state_dict keeps the tensors it is given: a copy, or both would share them.
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        with torch.no_grad():
            b.copy_(a)
        for g in grads[3:]:
            a.grad, b.grad = g, g.clone()
            first.step()
            second.step()
        assert torch.equal(a, b)


def test_clipping_scales_to_the_norm_by_hand():
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    frozen = nn.Parameter(torch.zeros(1))
    a.grad, b.grad = torch.tensor([2.0, 3.0]), torch.tensor([6.0])  # norm 7
    norm = clip_gradients([a, b, frozen], 3.5)
    assert norm.item() == pytest.approx(7.0)
    factor = 3.5 / (7 + 1e-6)
    torch.testing.assert_close(a.grad, torch.tensor([2.0, 3.0]) * factor)
    torch.testing.assert_close(b.grad, torch.tensor([6.0]) * factor)
    assert frozen.grad is None


def test_clipping_leaves_small_gradients_bit_for_bit():
    p = nn.Parameter(torch.zeros(100))
    p.grad = torch.randn(100, generator=torch.Generator().manual_seed(0))
    before = p.grad.clone()
    clip_gradients([p], 1e3)
    assert torch.equal(p.grad, before)
    assert clip_gradients([nn.Parameter(torch.zeros(1))], 1.0).item() == 0


def test_clipping_equals_torch():
    rng = torch.Generator().manual_seed(0)
    ours = [nn.Parameter(torch.zeros(s)) for s in (3, 50, 7)]
    theirs = [nn.Parameter(torch.zeros(s)) for s in (3, 50, 7)]
    for p, q in zip(ours, theirs, strict=True):
        p.grad = torch.randn(p.shape, generator=rng)
        q.grad = p.grad.clone()
    torch.testing.assert_close(clip_gradients(ours, 0.5), nn.utils.clip_grad_norm_(theirs, 0.5))
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def small_model(*, tied: bool) -> TransformerLM:
    return TransformerLM(
        ModelConfig(
            vocab_size=50, context_length=8, n_layers=2, d_model=16, n_heads=2, tie_weights=tied
        )
    )


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["adamw", "muon", "normuon", "sgd", "adagrad"])
def test_every_parameter_is_optimized_once(name, tied):
    model = small_model(tied=tied)
    optimizers = build_optimizers(model, OptimConfig(name=name))
    held = [id(p) for o in optimizers for g in o.param_groups for p in g["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    decayed = {
        id(p)
        for o in optimizers
        for g in o.param_groups
        if g["weight_decay"] > 0
        for p in g["params"]
    }
    groups = parameter_groups(model)
    assert decayed == {id(p) for p in groups["matrices"] + groups["head"]}
    if name in ("muon", "normuon"):
        assert type(optimizers[1]) is {"muon": Muon, "normuon": NorMuon}[name]
        assert {id(p) for p in optimizers[1].param_groups[0]["params"]} == {
            id(p) for p in groups["matrices"]
        }


class EveryKind(nn.Module):
    """One small parameter of every group, under the name a network gives it."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Module()])
        self.layers[0].attn = nn.Module()
        self.layers[0].attn.qkv_weight = nn.Parameter(torch.zeros(3, 4, 4))
        self.layers[0].attn.gate = nn.Linear(4, 2, bias=False)
        self.ln_final = nn.Module()
        self.ln_final.weight = nn.Parameter(torch.ones(4))
        self.token_embeddings = nn.Embedding(7, 4)
        if not tied:
            self.lm_head = nn.Linear(4, 7, bias=False)
        self.value_embeddings = nn.ModuleList([nn.Embedding(7, 4)])
        self.residual_scalars = nn.Parameter(torch.ones(1))
        self.x0_scalars = nn.Parameter(torch.ones(1))
        self.ngrams = nn.Module()
        self.ngrams.tables = nn.ModuleList([nn.Embedding(11, 3)])
        self.ngrams.projections = nn.ModuleList([nn.Linear(3, 4, bias=False)])


RECIPE = OptimConfig(
    name="normuon", lr=0.005, muon_lr=0.014, embedding_lr=0.18, value_embedding_lr=0.09,
    scalar_lr=0.0035, x0_lr=0.35, betas=(0.8, 0.96), table_betas=(0.8, 0.995),
    x0_betas=(0.96, 0.95), eps=1e-10, weight_decay=0.12, weight_decay_schedule="linear",
    cautious_weight_decay=True, orthogonalization="polar-express", momentum=0.95,
    momentum_start=0.85, momentum_warmup_steps=300, momentum_end=0.9, schedule="wsd",
    warmup_steps=40, decay_fraction=0.7, final_lr_ratio=0.05, average_tail=0.15,
)  # fmt: skip


def test_groups_have_their_own_rates_betas_and_decay():
    table, head = (0.8, 0.995), (0.8, 0.96)
    expected = {
        "lm_head.weight": (0.005, head, 0.12),
        "token_embeddings.weight": (0.18, table, 0.0),
        "value_embeddings.0.weight": (0.09, table, 0.0),
        "layers.0.attn.gate.weight": (0.005, head, 0.0),
        "ln_final.weight": (0.005, head, 0.0),
        "residual_scalars": (0.0035, head, 0.0),
        "x0_scalars": (0.35, (0.96, 0.95), 0.0),
        "ngrams.tables.0.weight": (0.18, table, 0.0),
        "ngrams.projections.0.weight": (0.005, head, 0.12),
    }
    for tied in (False, True):
        model = EveryKind(tied=tied)
        adamw, normuon = build_optimizers(model, RECIPE)
        (group,) = normuon.param_groups
        assert group["params"] == [model.layers[0].attn.qkv_weight]
        assert (group["lr"], group["weight_decay"], group["cautious"]) == (0.014, 0.12, True)
        assert group["orthogonalization"] == "polar-express"
        names = {p: name for name, p in model.named_parameters()}
        found = {
            names[p]: (g["lr"], g["betas"], g["weight_decay"])
            for g in adamw.param_groups
            for p in g["params"]
        }
        if tied:  # the head's rate and betas; decay stays off
            expected["token_embeddings.weight"] = (0.005, head, 0.0)
            del expected["lm_head.weight"]
        assert found == expected
        assert all(g["eps"] == 1e-10 for g in adamw.param_groups)


def test_groups_of_the_same_settings_are_updated_together():
    groups = build_optimizers(small_model(tied=False), OptimConfig(name="adamw"))[0].param_groups
    assert [g["weight_decay"] for g in groups] == [0.1, 0.0]


def test_learning_rates_keep_their_ratio():
    config = OptimConfig(name="muon", lr=1e-3, muon_lr=0.02, schedule="linear", final_lr_ratio=0.0)
    optimizers = build_optimizers(small_model(tied=True), config)
    set_schedule(optimizers, config, step=1, progress=0.75 + 0.25 * 0.05)
    set_schedule(optimizers, config, step=2, progress=0.5 + 0.5 * 0.05)
    assert [g["lr"] for o in optimizers for g in o.param_groups] == pytest.approx([5e-4, 0.01])


@pytest.mark.parametrize(
    ("step", "progress", "lr", "decay", "momentum"),
    [
        (1, 0.0001, 1 / 40, 0.9999, 0.85 + 0.1 / 300),
        (20, 0.002, 0.5, 0.998, 0.85 + 0.1 * 20 / 300),
        (300, 0.03, 1.0, 0.97, 0.95),
        (3000, 0.3, 1.0, 0.7, 0.95),
        (6500, 0.65, 0.525, 0.35, 0.925),
        (10_000, 1.0, 0.05, 0.0, 0.9),
    ],
)
def test_the_schedule_sets_every_group(step, progress, lr, decay, momentum):
    """RECIPE at points computed by hand, after a call at another point."""
    optimizers = build_optimizers(EveryKind(tied=False), RECIPE)
    before = [copy.deepcopy(g) for o in optimizers for g in o.param_groups]
    set_schedule(optimizers, RECIPE, step=77, progress=0.5)
    set_schedule(optimizers, RECIPE, step=step, progress=progress)
    for peak, group in zip(before, [g for o in optimizers for g in o.param_groups], strict=True):
        assert group["lr"] == pytest.approx(peak["lr"] * lr)
        assert group["weight_decay"] == pytest.approx(peak["weight_decay"] * decay)
    assert optimizers[1].param_groups[0]["momentum"] == pytest.approx(momentum)


def test_without_settings_the_schedule_leaves_momentum_and_decay_exactly():
    for name in ("muon", "sgd"):
        config = OptimConfig(name=name, momentum=0.937, weight_decay=0.0731)
        optimizers = build_optimizers(small_model(tied=False), config)
        for step in range(1, 8):
            set_schedule(optimizers, config, step=step, progress=step / 7)
            group = optimizers[-1].param_groups[0]
            assert (group["momentum"], group["weight_decay"]) == (0.937, 0.0731)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"x0_lr": 0.0}, "optim.x0_lr must be above 0"),
        ({"embedding_lr": -1.0}, "optim.embedding_lr must be above 0"),
        ({"table_betas": (0.9, 1.0)}, "betas and momentum must lie"),
        ({"x0_betas": (-0.1, 0.9)}, "betas and momentum must lie"),
        ({"momentum_end": 1.0}, "betas and momentum must lie"),
        ({"momentum_start": 0.85}, "needs optim.momentum_warmup_steps"),
        ({"momentum_warmup_steps": -1}, "optim.momentum_warmup_steps must be >= 0"),
        ({"warmup_steps": -5}, "optim.warmup_steps must be >= 0"),
        ({"average_tail": 1.5}, "optim.average_tail must lie in"),
        ({"average_every": 0}, "optim.average_every must be at least 1"),
        ({"cautious_weight_decay": True}, "needs optim.name muon or normuon: got adamw"),
        ({"schedule": "wsd", "warmup_fraction": 0.4, "decay_fraction": 0.7}, "exceed 1 together"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        OptimConfig(**wrong)


def test_a_warmup_in_steps_leaves_the_whole_run_to_the_decay():
    OptimConfig(schedule="wsd", warmup_fraction=0.4, decay_fraction=0.7, warmup_steps=10)


def test_every_setting_comes_back_from_json():
    config = TrainConfig(optim=RECIPE, max_steps=1)
    assert from_dict(TrainConfig, json.loads(to_json(config))) == config


def test_an_unused_parameter_is_left_alone():
    used, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = AdamW([used, unused], lr=0.1)
    used.grad = torch.ones(3)
    optimizer.step()
    assert np.array_equal(unused.detach().numpy(), np.ones(3))
    assert not torch.equal(used, torch.ones(3))


def test_a_run_that_compiles_nothing_does_not_import_dynamo():
    """torch's wrapper imports it in the first call of each method that it wraps."""
    wrapped = {
        name
        for name, method in inspect.getmembers(torch.optim.Optimizer, inspect.isfunction)
        if inspect.unwrap(method) is not method
        and method.__code__.co_filename == torch._compile.__file__
    }
    assert {"add_param_group", "state_dict"} <= wrapped
    for optimizer in (AdamW, NorMuon, RowAdaGrad):
        for name in wrapped:
            method = getattr(optimizer, name)
            assert method.__code__.co_filename != torch._compile.__file__, name
