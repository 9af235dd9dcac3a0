"""Peak FLOP/s and memory of GPUs, from NVIDIA's datasheets."""

import re
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


# NVIDIA's datasheets: A100 (June 2021, SXM 80GB), H100 (2023, SXM, PCIe and NVL), H200 (2024, SXM
# and NVL), GH200 (2024), HGX B200 (2025, an eighth), GB200 NVL72 (2024, a 72nd), L4, L40 and L40S
# (2023); Ada and Ampere (GA102) white papers. Where they give only the rate with sparsity, the
# table has half of it.
CHIPS = {
    "A100": Chip(312e12, 19.5e12, 80),
    "H100 PCIe": Chip(756.5e12, 51e12, 80),
    "H100": Chip(989.5e12, 67e12, 80),
    "H100 NVL": Chip(835.5e12, 60e12, 94),
    "H200": Chip(989.5e12, 67e12, 141),
    "H200 NVL": Chip(835.5e12, 60e12, 141),
    "GH200": Chip(989.5e12, 67e12, 96),
    "B200": Chip(2250e12, 75e12, 180),
    "GB200": Chip(2500e12, 80e12, 186),
    "L4": Chip(121e12, 30.3e12, 24),
    "L40": Chip(181e12, 90.5e12, 48),
    "L40S": Chip(362e12, 91.6e12, 48),
    "RTX 4090": Chip(165.2e12, 82.6e12, 24),
    "RTX 3090": Chip(71e12, 35.6e12, 24),
}


_SAYS_NOTHING = re.compile(r"NVIDIA|GeForce|GPU|SXM\d*|HBM\d\w*|\d+GB", re.IGNORECASE)
"""Words in the driver's names that do not tell one chip from another"""


def chip_of(device_name: str) -> str | None:
    """Key in CHIPS of a GPU by its driver's name for it; None if unknown.

    A name with a further word, such as Laptop or MIG, is another chip or a part of one.
    """
    words = {
        word.lower()
        for word in re.split(r"[\s-]+", device_name)
        if not _SAYS_NOTHING.fullmatch(word)
    }
    if "a100" in words:  # has the same peaks on both boards
        words.discard("pcie")
    return next((name for name in CHIPS if set(name.lower().split()) == words), None)


def peak_flops(device_name: str) -> float | None:
    """Dense bf16 peak, FLOP/s, of a GPU by its driver's name for it; None if unknown."""
    chip = chip_of(device_name)
    return None if chip is None else CHIPS[chip].bf16
