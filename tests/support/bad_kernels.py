"""Operations whose kernels have one fault each, which bench/kernel_aot.py has to find, and two with none."""

import torch
import triton
import triton.language as tl

from kernels.cases import Inputs, Op
from kernels.launch import launch, operation

N = 1 << 20


@triton.jit
def _good(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, i < n, 0.0).to(tl.float32)
    tl.store(y_ptr + i, (x * 2.0).to(y_ptr.dtype.element_ty), i < n)


@triton.jit
def _spill(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, i < n, 0.0).to(tl.float32)
    y = x / tl.sum(x, axis=0)
    tl.store(y_ptr + i, y.to(y_ptr.dtype.element_ty), i < n)


@triton.jit
def _float64(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, i < n, 0.0).to(tl.float64)
    tl.store(y_ptr + i, (x * 2.0).to(y_ptr.dtype.element_ty), i < n)


@triton.jit
def _half(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, i < n, 0.0)
    tl.store(y_ptr + i, x + x, i < n)


@triton.jit
def _atomic(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, i < n, 0.0).to(tl.float32)
    tl.atomic_add(y_ptr, tl.sum(x, axis=0))


@triton.jit
def _product(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    x = tl.load(x_ptr + i)
    tl.store(y_ptr + i, tl.dot(x, tl.trans(x)).to(y_ptr.dtype.element_ty))


@triton.jit
def _long_product(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for begin in range(0, n, BLOCK * BLOCK):
        total = tl.dot(tl.load(x_ptr + begin + i), tl.load(x_ptr + begin + n + i), total)
    tl.store(y_ptr + i, total.to(y_ptr.dtype.element_ty))


@triton.jit
def _no_kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    tl.static_assert(BLOCK < 8, "a block of 8 at most")


def _op(name, kernel, *, block=1024, n_warps=4, n_stages=3, offset=0, n=N, sum_dtype=None):
    """An operation that launches one kernel and has no backward pass."""

    def fake(x: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(x, dtype=sum_dtype or x.dtype)

    @operation(f"bad_{name}", fake)
    def run(x: torch.Tensor) -> torch.Tensor:
        y = fake(x)
        x = x[offset:]
        launch(
            kernel, (triton.cdiv(n, block),),
            x, y, n, BLOCK=block, num_warps=n_warps, num_stages=n_stages,
        )  # fmt: skip
        return y

    def make(shape, options, dtype, device, g):
        return Inputs((torch.randn(shape, generator=g).to(device, dtype),), (), options)

    return Op(run, make, (8,), ((8,),), ((N,),), ({},), lambda shape, itemsize: (0, 0))


@operation("bad_in_place", lambda tensors: None, is_opaque=True, changes=("tensors",))
def _in_place(tensors: list[torch.Tensor]) -> None:
    for x in tensors:
        launch(_good, (triton.cdiv(N, 1024),), x, x, N, BLOCK=1024, num_warps=4)


def _list(shape, options, dtype, device, g):
    tensors = [torch.randn(shape, generator=g).to(device, dtype) for _ in range(2)]
    return Inputs((tensors,), (), options, (0,))


OPS = {
    "good": _op("good", _good),
    "in_place": _op("in_place_too", _good)._replace(function=_in_place, make=_list),
    "spill": _op("spill", _spill, block=1 << 14, n_warps=1),
    "float64": _op("float64", _float64),
    "half": _op("half", _half),
    "not_aligned": _op("not_aligned", _good, offset=1),
    "odd_end": _op("odd_end", _good, n=N - 1),
    "atomic": _op("atomic", _atomic, sum_dtype=torch.float32),
    "product": _op("product", _product, block=64),
    "narrow_product": _op("narrow_product", _product, block=32),
    "shared": _op("shared", _long_product, block=128, n_warps=8, n_stages=5),
    "no_kernel": _op("no_kernel", _no_kernel),
    "nothing": _op("nothing", _good)._replace(function=lambda x: x + 1),
}
