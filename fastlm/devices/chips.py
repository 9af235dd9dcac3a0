"""Peak FLOP/s and memory of GPUs, from NVIDIA's datasheets."""

from typing import NamedTuple


class Chip(NamedTuple):
    """The figures of a GPU's datasheet.

    Attributes:
        bf16: dense tensor-core peak, FLOP/s.
        float32: peak without tensor cores, FLOP/s.
        memory: GB, of 10^9 bytes.
    """

    bf16: float
    float32: float
    memory: float


# NVIDIA's datasheets: A100 (June 2021, SXM 80GB), H100 (2023, SXM and PCIe), H200 (2024, SXM),
# HGX B200 (2025, an eighth), L4 and L40S (2023); Ada and Ampere (GA102) white papers. Where they
# give only the rate with sparsity, the table has half of it.
CHIPS = {
    "A100": Chip(312e12, 19.5e12, 80),
    "H100 PCIe": Chip(756.5e12, 51e12, 80),
    "H100": Chip(989.5e12, 67e12, 80),
    "H200": Chip(989.5e12, 67e12, 141),
    "B200": Chip(2250e12, 75e12, 180),
    "L4": Chip(121e12, 30.3e12, 24),
    "L40S": Chip(362e12, 91.6e12, 48),
    "RTX 4090": Chip(165.2e12, 82.6e12, 24),
    "RTX 3090": Chip(71e12, 35.6e12, 24),
}


def chip_of(device_name: str) -> str | None:
    """Key in CHIPS of a GPU by its driver's name for it; None if unknown."""
    matches = [name for name in CHIPS if all(part in device_name for part in name.split())]
    return max(matches, key=len) if matches else None


def peak_flops(device_name: str) -> float | None:
    """Dense bf16 peak, FLOP/s, of a GPU by its driver's name for it; None if unknown."""
    chip = chip_of(device_name)
    return None if chip is None else CHIPS[chip].bf16
