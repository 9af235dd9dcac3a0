"""The machine of a run: its device, compute dtype and memory, and a description for records."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from fastlm.devices.chips import peak_flops
from fastlm.devices.process import peak_resident_bytes


def choose_device(wanted: str = "auto") -> torch.device:
    """The wanted device; "auto" is the first available of cuda, mps, cpu.

    Raises:
        ValueError: if the wanted device is not available.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    if not available.get(wanted, False):
        here = ", ".join(name for name, there in available.items() if there)
        raise ValueError(f"device {wanted} is not available: this machine has {here}")
    return torch.device(wanted)


# Each of these overrides the allocator's settings (c10/cuda/CUDAAllocatorConfig.h of torch 2.13).
_ALLOCATOR_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


def configure_cuda(*, bf16: bool) -> None:
    """Set up the process for a long run on a GPU; call it before the first CUDA call.

    The allocator uses expandable segments: sizes differ between training, validation and the
    optimizer step, so fixed segments would fragment. A user's own allocator settings stay.

    With bf16, float32 matrix products may use TF32, whose 10 bits of mantissa are more than the 7
    of bfloat16. Master weights, optimizer states, norms and losses stay float32. Without bf16 all
    products are float32, for reference runs.
    """
    if not torch.cuda.is_available():
        return
    if sys.platform == "linux" and not any(name in os.environ for name in _ALLOCATOR_VARIABLES):
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
    if bf16:
        torch.set_float32_matmul_precision("high")


def choose_compute_dtype(device: torch.device, bf16: bool) -> tuple[torch.dtype, str]:
    """The dtype of activations, and the reason if it is not the requested one (else "").

    A CPU without bfloat16 instructions emulates them many times slower than it computes in
    float32, so it uses float32, which is also more precise.

    Raises:
        ValueError: for a GPU that cannot compute in bfloat16.
    """
    if not bf16:
        return torch.float32, ""
    if device.type == "cpu" and not cpu_has_bf16():
        return torch.float32, "this CPU has no bfloat16 instructions: --bf16 computes in float32"
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name(device)
        raise ValueError(
            f"--bf16 needs a GPU of compute capability 8.0 or newer: {name} is older; leave it out"
        )
    if device.type == "mps" and not torch.backends.mps.is_macos_or_newer(14, 0):
        raise ValueError("--bf16 on mps needs macOS 14 or newer: leave it out")
    return torch.bfloat16, ""


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware."""
    if platform.machine() in ("x86_64", "AMD64"):
        # oneDNN's own check is true for every AVX-512 CPU, even if it emulates bfloat16.
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def without_waiting(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """x of the CPU on the device; the host goes on before a GPU has it."""
    # A copy from pageable memory would wait for all work of the GPU.
    pinned = x.pin_memory() if device.type == "cuda" else x
    return pinned.to(device, non_blocking=True)


def chip_peak_flops(device: torch.device) -> float | None:
    """Dense bf16 peak of the GPU, FLOP/s; None if unknown."""
    if device.type != "cuda":
        return None
    return peak_flops(torch.cuda.get_device_name(device))


def peak_memory(device: torch.device) -> int:
    """Peak memory so far, in bytes: of tensors on CUDA, otherwise of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_resident_bytes()


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    try:
        # MemAvailable includes the page cache, which the system would give up.
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (ValueError, OSError, AttributeError):  # Windows has no sysconf
        return 4 << 30


def identity(device: torch.device) -> dict[str, Any]:
    """The facts that make two devices equally fast at the same work: chip, memory, cores (JSON)."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return {
            "type": "cuda",
            "name": properties.name,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "compute_capability": f"{properties.major}.{properties.minor}",
        }
    return {"type": device.type, "name": _cpu_name(), "cores": available_cores()}


def available_cores() -> int:
    """Number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe(device: torch.device) -> dict[str, Any]:
    """Describe machine and software for a run's record: versions, CPU, GPU, driver, commit."""
    versions = {}
    for name in ("torch", "triton", "numpy", "numba", "safetensors"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    told: dict[str, Any] = {
        "python": platform.python_version(),
        "versions": versions,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "commit": _commit(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        told["gpu"] = properties.name
        told["gpu_memory_bytes"] = properties.total_memory
        told["cuda"] = torch.version.cuda
        told["float32_matmul_precision"] = torch.get_float32_matmul_precision()
        told["driver"] = _driver(properties.uuid)
        told["allocator"] = {n: os.environ[n] for n in _ALLOCATOR_VARIABLES if n in os.environ}
    if "SLURM_JOB_ID" in os.environ:
        told["slurm_job"] = os.environ["SLURM_JOB_ID"]
    return told


_DRIVER_FIELDS = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit")


def _driver(uuid: object) -> dict[str, str]:
    """Driver, clocks and power limit of a GPU from nvidia-smi; empty if it reports none."""
    rows = _nvidia_smi(f"--query-gpu={','.join(_DRIVER_FIELDS)}", f"--id=GPU-{uuid}")
    if len(rows) != 1 or len(rows[0]) != len(_DRIVER_FIELDS):
        return {}
    return dict(zip(_DRIVER_FIELDS, rows[0], strict=True))


def driver_gpus() -> list[tuple[str, str]]:
    """Name and driver version of every GPU that nvidia-smi lists, even if torch sees none."""
    rows = _nvidia_smi("--query-gpu=name,driver_version")
    return [(row[0], row[1]) for row in rows if len(row) == 2]


def gpu_processes(uuid: object) -> list[int]:
    """Ids of the other processes that compute on a GPU."""
    rows = _nvidia_smi("--query-compute-apps=pid", f"--id=GPU-{uuid}")
    return [int(row[0]) for row in rows if row[0].isdecimal() and int(row[0]) != os.getpid()]


def _nvidia_smi(*query: str) -> list[list[str]]:
    """Rows of values; empty if nvidia-smi is missing or fails."""
    words = ["nvidia-smi", *query, "--format=csv,noheader"]
    try:
        run = subprocess.run(words, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if run.returncode:
        return []
    return [[value.strip() for value in line.split(",")] for line in run.stdout.splitlines()]


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _commit() -> str:
    """Commit of the sources, with "+changed" if they differ; "unknown" outside a checkout."""
    root = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        run = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10
        )
        return run.stdout.strip() if run.returncode == 0 else ""

    try:
        if not git("ls-files", "--", "fastlm/__init__.py"):
            return "unknown"  # installed inside another project's checkout
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--", "fastlm", "kernels")
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return (commit + ("+changed" if changed else "")) or "unknown"
