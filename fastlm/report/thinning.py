"""Thin long curves to few points that still show every spike."""

import itertools
from collections.abc import Sequence

LEAST = 16
"""rows below which nothing is worth thinning"""


def rows_to_keep(
    columns: Sequence[Sequence[float | None]], limit: int, shares: Sequence[float] | None = None
) -> list[int]:
    """Choose the rows to draw: the least and the greatest value of every bucket of each column.

    Half of a column's buckets have equal length, and half grow with the row's number, so that the
    beginning also keeps its shape on a logarithmic axis. The first and the last row are kept, and
    so is one row without a value from each bucket, so that gaps are seen.

        rows_to_keep([[5.0, 4.0, 9.0, 3.0, ...]], limit=100)   # 2, the spike, is one of them

    Args:
        columns: columns of equal length, with None where there is no value.
        limit: greatest number of rows to keep; a limit below LEAST counts as LEAST.
        shares: share of the limit for each column's extremes; equal shares if None.
    Returns:
        Row numbers in ascending order.
    """
    n_rows = len(columns[0]) if columns else 0
    limit = max(limit, LEAST)
    if n_rows <= limit:
        return list(range(n_rows))
    shares = [1 / len(columns)] * len(columns) if shares is None else shares
    # The first column matters most, so it gets the rows that the others leave unused.
    kept = {0, n_rows - 1}
    for column, share in list(zip(columns, shares, strict=True))[1:]:
        kept |= _extremes(column, int(share * (limit - 2)))
    kept |= _extremes(columns[0], limit - len(kept))
    return sorted(kept)


def _extremes(column: Sequence[float | None], limit: int) -> set[int]:
    """Return at most limit rows: each bucket's least, greatest and one missing value."""
    if all(value is None for value in column):
        return set()
    for rows_of_a_bucket in (2, 3):
        found = _of_buckets(column, _edges(len(column), limit // rows_of_a_bucket))
        if len(found) <= limit:
            return found
    return set()


def _edges(n_rows: int, n_buckets: int) -> list[int]:
    n_growing = n_buckets // 2
    n_even = n_buckets - n_growing
    even = {round(i * n_rows / n_even) for i in range(n_even + 1)} if n_even else set()
    growing = {round(n_rows ** (i / (n_growing + 1))) for i in range(1, n_growing + 1)}
    return sorted(even | growing)


def _of_buckets(column: Sequence[float | None], edges: Sequence[int]) -> set[int]:
    kept = set()
    for begin, end in itertools.pairwise(edges):
        least = largest = missing = None
        for row in range(begin, end):
            value = column[row]
            if value is None:
                missing = row
                continue
            if least is None or value < _known(column, least):
                least = row
            if largest is None or value > _known(column, largest):
                largest = row
        kept |= {row for row in (least, largest, missing) if row is not None}
    return kept


def _known(column: Sequence[float | None], row: int) -> float:
    value = column[row]
    assert value is not None
    return value
