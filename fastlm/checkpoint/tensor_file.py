"""Write tensors in the safetensors format piece by piece.

The library's own writer holds Python's interpreter lock while it copies all bytes, half a second or
more per GB, in which no other thread can give a GPU work. Here each piece is written and hashed by
functions that release the lock.
Source of the format: https://github.com/huggingface/safetensors, README, "Format".
"""

import json
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

_PIECE_BYTES = 1 << 24

# In the order of the library, which puts the widest types first, so that all are aligned.
_DTYPES = {
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_RANKS = {dtype: rank for rank, dtype in enumerate(_DTYPES)}


def pieces(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """Yield the content of a safetensors file, byte for byte that of safetensors.torch.save.

    Args:
        tensors: contiguous, on the CPU.
    """
    names = sorted(tensors, key=lambda name: (_RANKS[tensors[name].dtype], name))
    header, end = {}, 0
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    described = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    described += b" " * (-len(described) % 8)
    yield len(described).to_bytes(8, "little")
    yield described
    for name in names:
        content = tensors[name].reshape(-1).view(torch.uint8).numpy().data
        for begin in range(0, len(content), _PIECE_BYTES):
            yield content[begin : begin + _PIECE_BYTES]
