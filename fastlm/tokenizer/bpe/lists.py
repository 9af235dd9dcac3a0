# mypy: allow-untyped-defs, allow-untyped-calls
"""Lists of token ids, made by a kernel.

Python creates an object for each integer of a list, or counts one more reference to an integer
that exists. The integers here are shared by all lists and are never freed, so that their references
need no count, and writing the addresses of the items is all there is to do.
"""

from __future__ import annotations

import ctypes
import functools
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fastlm.tokenizer.bpe.buffers import Buffer, place_of
from fastlm.tokenizer.bpe.compiler import kernel
from fastlm.tokenizer.bpe.compiler import numpy as np
from fastlm.tokenizer.bpe.context import int32_at, int64_at, u64, uint16_at, uint64_at
from fastlm.tokenizer.bpe.objects import (
    CAN_WRITE_LISTS,
    ITEMS,
    items_of,
    lasting_references,
    new_list,
)

if TYPE_CHECKING:
    from jaxtyping import Int64, UInt


_OF_PYTHON = 257  # integers from 0 on that Python keeps itself


@functools.cache
def _shared_integers(n_bits: int) -> Buffer:
    """Addresses of the integers of up to n_bits bits, which live as long as the process."""
    integers = list(range(1 << n_bits))
    addresses = Buffer(len(integers), u64)
    ctypes.memmove(addresses.address, items_of(integers), 8 * len(integers))
    for address in addresses.items[:_OF_PYTHON]:
        # Python 3.11 counts these as well: from a thousand million, which lists would use up.
        count = ctypes.c_int64.from_address(address)
        count.value = lasting_references(count.value)
    if len(addresses) > _OF_PYTHON:
        present = ctypes.c_int64.from_address(addresses.items[-1]).value
        _add_references(addresses.address, len(addresses), lasting_references(present) - present)
    return addresses


@kernel
def _add_references(addresses_address, n, added):
    addresses = uint64_at(addresses_address)
    for k in range(_OF_PYTHON, n):
        int64_at(np.int64(addresses[k]))[0] += added
    return 0


@kernel
def _fill(list_address, ids_address, itemsize, n, addresses_address):
    items = uint64_at(int64_at(list_address + ITEMS)[0])
    addresses = uint64_at(addresses_address)
    if itemsize == 2:
        short = uint16_at(ids_address)
        for k in range(n):
            items[k] = addresses[short[k]]
    else:
        long = int32_at(ids_address)
        for k in range(n):
            items[k] = addresses[long[k]]
    return 0


_LONG = 500  # from so many ids on a list is made faster by a call of its own than by a copy


class ListMaker:
    """Makes lists of ids below a bound.

    Args:
        n_ids: the bound.
    """

    def __init__(self, n_ids: int) -> None:
        self._addresses = (
            _shared_integers(max(n_ids - 1, 1).bit_length()) if CAN_WRITE_LISTS else None
        )

    def to_list(self, ids: Any) -> list[int]:
        """Return what ids.tolist() returns, of an array or a memoryview of uint16 or uint32."""
        n = len(ids)
        if self._addresses is None or n == 0:
            return ids.tolist()
        made = new_list(n)
        _fill(id(made), place_of(ids), ids.itemsize, n, self._addresses.address)
        return made

    def to_lists(
        self, ids: UInt[np.ndarray, " n"], offsets: Int64[np.ndarray, " n_lists_plus_1"]
    ) -> list[list[int]]:
        """Return to_list(ids[begin:end]) of each two neighbours in offsets."""
        bounds = offsets.tolist()
        if len(ids) < _LONG * len(bounds):
            joined = self.to_list(ids)
            return [joined[begin:end] for begin, end in pairwise(bounds)]
        return [self.to_list(ids[begin:end]) for begin, end in pairwise(bounds)]
