"""The operations of a model: chosen by name, chosen automatically, or refused with a reason."""

import inspect
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import kernels
from fastlm import functional
from fastlm.config import ModelConfig
from fastlm.model import TransformerLM, init_weights
from fastlm.ops import Ops, load_ops, names_of_ops, reference_ops, torch_ops, without_faults
from kernels.cases import OPS
from kernels.launch import INTERPRETED

ROOT = Path(__file__).resolve().parents[2]
HERE = "cpu" if INTERPRETED else "cuda"


@pytest.mark.parametrize("name", sorted({*kernels.OPS, *OPS}))
def test_a_kernel_is_called_as_its_reference_is(name):
    ours = inspect.signature(kernels.OPS[name] if name in kernels.OPS else OPS[name].function)
    reference = inspect.signature(getattr(functional, name))
    assert list(ours.parameters) == list(reference.parameters)
    for mine, its in zip(ours.parameters.values(), reference.parameters.values(), strict=True):
        assert (mine.kind, mine.default) == (its.kind, its.default)


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_pytorchs_own_loss_is_the_reference(softcap):
    """Also in its gradients, of targets that count and of those that do not."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, 16, generator=generator) for n in (24, 40))
    targets = torch.randint(0, 40, (24,), generator=generator)
    targets[::5] = functional.IGNORE_INDEX
    found, expected = [], []
    for op, results in (
        (torch_ops.linear_cross_entropy, found),
        (reference_ops.linear_cross_entropy, expected),
    ):
        inputs = [t.clone().requires_grad_() for t in (hidden, weight)]
        loss = op(*inputs, targets, softcap=softcap)
        results += [loss, *torch.autograd.grad(loss, inputs)]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_what_a_model_may_be_given_has_a_case_and_a_place_in_the_table():
    assert set(kernels.OPS) <= set(OPS)
    assert set(kernels.OPS) <= set(Ops._fields)
    for name, function in reference_ops._asdict().items():
        assert function is getattr(functional, name)


def test_names_are_taken_and_no_others():
    table = load_ops("rms_norm,relu2_ffn", HERE)
    assert table == torch_ops._replace(
        rms_norm=kernels.OPS["rms_norm"], relu2_ffn=kernels.OPS["relu2_ffn"]
    )
    assert load_ops("none") is torch_ops
    assert load_ops("relu2,qk_norm_rope", HERE) == load_ops("relu2_ffn,qkv_norm_rope", HERE)
    assert load_ops("all", HERE) == torch_ops._replace(**kernels.OPS)


@pytest.mark.interpreter
@pytest.mark.parametrize("name", kernels.AUTO)
def test_a_kernel_that_works_stays_and_one_that_does_not_is_told(name, monkeypatch):
    device = torch.device(HERE)
    table = load_ops(name, device)
    assert without_faults(table, device, torch.bfloat16) == (table, ())
    op = OPS[name]

    def wrong(*arguments, **options):
        result = op.function(*arguments, **options)
        return tuple(1.05 * r for r in result) if isinstance(result, tuple) else 1.05 * result

    def broken(*arguments, **options):
        raise RuntimeError("out of resource:\n shared memory")

    for function, reason in ((wrong, "an error of "), (broken, "out of resource: shared memory")):
        monkeypatch.setitem(OPS, name, op._replace(function=function))
        found, (notice,) = without_faults(table, device, torch.bfloat16)
        assert found == torch_ops
        assert f"the Triton kernel {name} does not work here" in notice
        assert reason in notice


def test_by_itself_kernels_are_taken_on_a_gpu_alone(monkeypatch):
    monkeypatch.setattr(kernels, "AUTO", ("rms_norm",))
    assert load_ops("auto", "cpu") is torch_ops
    assert load_ops("auto", "cuda") == torch_ops._replace(rms_norm=kernels.OPS["rms_norm"])


def test_a_name_that_no_kernel_has_is_refused():
    with pytest.raises(
        ValueError, match=r"rms_norm,fast: 'fast' is no Triton op: .* auto.*rms_norm"
    ):
        load_ops("rms_norm,fast", HERE)
    with pytest.raises(ValueError, match="--triton-ops adamw,auto: 'auto' stands alone: expected"):
        load_ops("adamw,auto", HERE)


def test_names_of_kernels_may_have_blanks_around_them_and_none_is_empty():
    assert names_of_ops(" relu2 , adamw ", kernels.OPS) == ("relu2_ffn", "adamw")
    for text in ("", "adamw,", ",adamw", "adamw, ,rms_norm"):
        with pytest.raises(ValueError, match=r"--triton-ops takes .* or some of .*: got '"):
            names_of_ops(text, kernels.OPS)


@pytest.mark.interpreter
def test_a_gpu_under_the_interpreter_is_refused():
    with pytest.raises(ValueError, match="TRITON_INTERPRET=1, which runs kernels on the CPU"):
        load_ops("rms_norm", "cuda")


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=environment.pop("cwd", str(ROOT)),
        env={"PATH": "/usr/bin:/bin", **environment},
    )


@pytest.mark.slow
def test_kernels_without_a_gpu_are_refused_before_anything_is_done():
    code = "from fastlm.ops import load_ops; load_ops('rms_norm', 'cpu')"
    result = run_python(code)
    assert "needs a CUDA device: got cpu; use --triton-ops none, or set TRITON" in result.stderr


HIDDEN = "import sys; sys.modules['triton'] = None\n"


@pytest.mark.slow
def test_without_triton_everything_else_works():
    code = HIDDEN + (
        "from fastlm.ops import load_ops, torch_ops\n"
        "assert load_ops('none') is torch_ops is load_ops('auto') is load_ops('auto', 'cuda')\n"
        "load_ops('rms_norm', 'cuda')"
    )
    result = run_python(code)
    assert "needs fastlm's own package kernels, and Triton" in result.stderr
    assert "ValueError" in result.stderr.splitlines()[-1]


@pytest.mark.slow
def test_another_package_called_kernels_is_told_from_ours(tmp_path):
    """One of that name is on PyPI. An editable install that knows ours as fastlm.kernels is hidden."""
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("")
    code = (
        "import sys; sys.modules['fastlm.kernels'] = None\n"
        "from fastlm.ops import load_ops; load_ops('rms_norm', 'cuda')"
    )
    result = run_python(code, PYTHONPATH=f"{tmp_path}:{ROOT}", cwd=str(tmp_path))
    assert "needs fastlm's own package kernels" in result.stderr


@pytest.fixture
def hopper(monkeypatch) -> list[tuple[int, ...]]:
    """A machine that seems to have FlashAttention-3; the shapes it is called with."""
    calls: list[tuple[int, ...]] = []

    def flash_attn_func(q, k, v, *, causal):
        calls.append(tuple(q.shape))
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return torch_ops.attention(q, k, v, is_causal=causal).transpose(1, 2)

    module = types.ModuleType("flash_attn_interface")
    module.flash_attn_func = flash_attn_func  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flash_attn_interface", module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    return calls


def test_flash_attention_3_is_given_causal_bfloat16_attention(hopper):
    """A stand-in gets its layout (batch, seq, head, d_head); numbers are tested on a GPU."""
    ops = load_ops("none", "cuda", attention="fa3")
    config = ModelConfig(vocab_size=97, context_length=24, n_layers=2, d_model=32, n_heads=4)
    losses = []
    ids = torch.arange(48).view(2, 24)
    for table in (ops, torch_ops):
        model = TransformerLM(config, ops=table, compute_dtype=torch.bfloat16)
        init_weights(model, 0)
        losses.append(model.loss(ids, ids))
    assert hopper == [(2, 24, 4, 8)] * 2
    assert torch.equal(*losses)


def test_other_attention_is_left_to_the_tables_own(hopper):
    ours = load_ops("none", "cuda", attention="fa3").attention
    q, k = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 9, 8)
    mask = torch.ones(5, 5, dtype=torch.bool)
    half = q.bfloat16()
    for arguments, is_causal in (
        ((q, q, q), True), ((half, half, half), False), ((half, half, half, mask), True),
        ((half, k.bfloat16(), k.bfloat16()), True), ((half[0], half[0], half[0]), True),
    ):  # fmt: skip
        expected = torch_ops.attention(*arguments, is_causal=is_causal)
        assert torch.equal(ours(*arguments, is_causal=is_causal), expected)
    assert hopper == []


def test_flash_attention_3_asked_for_where_it_cannot_run_is_refused(hopper, monkeypatch):
    with pytest.raises(ValueError, match=r"needs a Hopper GPU .*: got cpu; use --attention auto"):
        load_ops("none", "cpu", attention="fa3")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    with pytest.raises(ValueError, match=r"got NVIDIA A100, of compute capability 8\.x"):
        load_ops("none", "cuda", attention="fa3")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setitem(sys.modules, "flash_attn_interface", None)
    with pytest.raises(ValueError, match="needs the package flash_attn_interface"):
        load_ops("none", "cuda", attention="fa3")


@pytest.mark.parametrize("name", ["cudnn", "flash", "efficient"])
def test_a_named_kernel_of_pytorch_computes_causal_attention_and_others_are_left_to_it(
    name, monkeypatch
):
    """On a machine that seems to have a GPU, PyTorch's function notes which kernels it may take."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    allowed: list[set[str]] = []
    compute = torch.nn.functional.scaled_dot_product_attention

    def noting(*arguments, **options):
        kernels = {"cudnn": "cudnn", "flash": "flash", "efficient": "mem_efficient", "math": "math"}
        on = {k for k, v in kernels.items() if getattr(torch.backends.cuda, f"{v}_sdp_enabled")()}
        allowed.append(on)
        with sdpa_kernel(SDPBackend.MATH):
            return compute(*arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noting)
    ours = load_ops("none", "cuda", attention=name).attention
    q, k = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 9, 8)
    mask = torch.ones(5, 5, dtype=torch.bool)
    torch.testing.assert_close(ours(q, q, q, is_causal=True), functional.attention(q, q, q, is_causal=True))  # fmt: skip
    assert allowed.pop() == {name}
    for arguments, is_causal in (((q, q, q, mask), True), ((q, k, k), True), ((q, k, k), False)):
        found = ours(*arguments, is_causal=is_causal)
        torch.testing.assert_close(found, functional.attention(*arguments, is_causal=is_causal))
        assert len(allowed.pop()) > 1


def test_a_kernel_of_pytorch_is_refused_without_a_gpu_and_by_a_wrong_name():
    with pytest.raises(ValueError, match="--attention cudnn needs a GPU: got cpu"):
        load_ops("none", "cpu", attention="cudnn")
    with pytest.raises(
        ValueError, match="no attention is called 'fast': expected auto, fa3, cudnn"
    ):
        load_ops("none", "cuda", attention="fast")


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["cudnn", "flash", "efficient"])
def test_named_kernels_of_pytorch_agree_with_the_formula(name):
    ours = load_ops("none", "cuda", attention=name).attention
    rng = torch.Generator("cuda").manual_seed(0)
    q, k, v, slope = (
        torch.randn(2, 4, 200, 64, device="cuda", generator=rng).bfloat16() for _ in range(4)
    )
    results = []
    for function, dtype in ((ours, torch.bfloat16), (functional.attention, torch.float64)):
        inputs = [x.to(dtype).requires_grad_() for x in (q, k, v)]
        out = function(*inputs, is_causal=True)
        results.append([out, *torch.autograd.grad(out, inputs, slope.to(dtype))])
    for found, truth in zip(*results, strict=True):
        torch.testing.assert_close(found.double(), truth, atol=0.03, rtol=0.03)
