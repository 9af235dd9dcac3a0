"""Check that fastlm works on this machine, and say how to fix what does not.

python -m fastlm.doctor
"""

from fastlm.cli import interrupts

if __name__ == "__main__":
    interrupts.exit_on_interrupt()

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from fastlm import __version__, cli
from fastlm.cli.units import human_bytes
from fastlm.devices.compilers import INSTALL, find_compiler, has_python_headers

if TYPE_CHECKING:
    import torch

OLDEST_PYTHON = (3, 11)
TORCH = ((2, 11), (2, 14))
"""Releases of torch that fastlm is tested with: from the first to below the second."""

SLURM = ("sbatch", "squeue", "scancel", "sinfo")
_GIB = 1 << 30
_LITTLE_SPACE, _NO_SPACE = 10 * _GIB, 1 * _GIB
_LITTLE_SHARED_MEMORY = 1 << 30
_LITTLE_MEMORY = 2 * _GIB
_TAKEN_SHARE = 0.2
"""Share of a GPU's memory that other processes may use without a note."""


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        state: ok; note, if fastlm works without it; problem, if it does not.
        remedy: what to do if the state is not ok.
    """

    state: Literal["ok", "note", "problem"]
    about: str
    text: str
    remedy: str = ""


def ok(about: str, text: str) -> Finding:
    """A finding that needs no action."""
    return Finding("ok", about, text)


def note(about: str, text: str, remedy: str) -> Finding:
    """A finding that makes fastlm slower or one part of it unusable."""
    return Finding("note", about, text, remedy)


def problem(about: str, text: str, remedy: str) -> Finding:
    """A finding that keeps fastlm from working."""
    return Finding("problem", about, text, remedy)


def look_at_python() -> Iterator[Finding]:
    """Check the version of Python."""
    here = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        yield problem("Python", here, f"install Python {oldest} or newer, and fastlm into that one")
    else:
        yield ok("Python", here)


def look_at_packages() -> Iterator[Finding]:
    """Check the versions of the packages that fastlm needs."""
    yield ok("fastlm", f"{__version__}, {Path(__file__).resolve().parent}")
    for name in ("torch", "numpy", "numba", "triton"):
        version = _version(name)
        if version is not None and (name != "torch" or _is_tested(version)):
            yield ok(name, version)
        elif version is not None:
            first, end = (".".join(map(str, release)) for release in TORCH)
            wanted = f"torch>={first},<{end}"
            yield note(
                name, f"{version}: fastlm is tested with {wanted}", f'pip install "{wanted}"'
            )
        elif name != "triton":
            yield problem(name, "not installed", f"pip install {name}")
        elif sys.platform == "linux":
            remedy = "pip install triton; or leave out --triton-ops, and --compile on a GPU"
            yield note(name, "not installed", remedy)
        else:
            yield ok(name, f"not available for {platform.system()}: all but --triton-ops works")
    if _version("torch") is not None and (reason := torch_fails()):
        remedy = "pip install --force-reinstall torch triton"
        yield problem("torch", f"cannot be imported: {reason}", remedy)


def torch_fails() -> str:
    """The error of importing torch; empty if the import works."""
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:
        return described(error)
    return ""


def described(error: Exception) -> str:
    """Type of an error, and the first line of its text if it has any."""
    line = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _is_tested(version: str) -> bool:
    """Whether a release of torch, such as "2.13.0+cu130", is in the tested range."""
    parts = version.split(".")
    if not (parts[0].isdecimal() and parts[1].isdecimal()):
        return False
    return TORCH[0] <= (int(parts[0]), int(parts[1])) < TORCH[1]


def look_at_kernels() -> Iterator[Finding]:
    """Check that fastlm's own Triton kernels can be imported."""
    from fastlm.ops import load_kernels

    if _version("triton") is None:
        return
    try:
        ours = load_kernels()
    except ImportError as error:
        yield note(
            "kernels",
            f"fastlm's Triton operations are not found: {error}",
            "run from fastlm's folder, install fastlm, or use --triton-ops none",
        )
        return
    theirs = find_spec("kernels")
    also = ""
    if theirs is not None and theirs.origin != ours.__file__:
        also = f"; another package named kernels, {theirs.origin}, is not used"
    yield ok("kernels", f"{ours.__name__}, {len(ours.OPS)} operations{also}")


def look_at_gpus() -> Iterator[Finding]:
    """Check each GPU: memory, driver, dtypes, and a kernel launch."""
    import torch

    from fastlm.devices import hardware

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield from _look_at_gpu(torch.device("cuda", index))
        return
    known = hardware.driver_gpus()
    if known:
        name, driver = known[0]
        remedy = (
            "install a CUDA build of torch: pip install --force-reinstall torch"
            if torch.version.cuda is None
            else f"update the driver for CUDA {torch.version.cuda}, or check CUDA_VISIBLE_DEVICES"
        )
        text = f"{name}, driver {driver}: torch {torch.__version__} cannot use it"
        yield problem("GPU", text, remedy)
    elif torch.backends.mps.is_available():
        if torch.backends.mps.is_macos_or_newer(14, 0):
            yield ok("GPU", "Apple GPU (mps); --bf16 works")
        else:
            yield note("GPU", "Apple GPU (mps)", "--bf16 needs macOS 14 or newer: leave it out")
    else:
        fast = "" if hardware.cpu_has_bf16() else "; this CPU computes --bf16 in float32"
        yield note("GPU", f"none{fast}", "small recipes train on a CPU: --recipe stories or tiny")


def _look_at_gpu(device: "torch.device") -> Iterator[Finding]:
    import torch

    from fastlm.devices import hardware

    about = str(device)
    properties = torch.cuda.get_device_properties(device)
    capability = torch.cuda.get_device_capability(device)
    driver = next((version for _, version in hardware.driver_gpus()), "unknown")
    free, total = hardware.free_memory(device), properties.total_memory
    yield ok(
        about,
        f"{properties.name}, {human_bytes(total)}, compute capability {capability[0]}."
        f"{capability[1]}, driver {driver}, CUDA {torch.version.cuda}",
    )
    if total - free > _TAKEN_SHARE * total:
        others = hardware.gpu_processes(properties.uuid)
        whose = f" by process {', '.join(map(str, others))}" if others else ""
        yield note(
            about,
            f"{human_bytes(total - free)} of its memory is taken{whose}, {human_bytes(free)} free",
            "end processes that use it, or choose another GPU with CUDA_VISIBLE_DEVICES",
        )
    if torch.cuda.is_bf16_supported(including_emulation=False):
        yield ok(about, "bfloat16 works")
    else:
        yield note(about, "no bfloat16, which needs compute capability 8.0", "leave out --bf16")
    if capability >= (8, 9):
        yield ok(about, "float8 works")
    else:
        yield note(about, "no float8, which needs compute capability 8.9", "leave out --fp8")
    if _version("triton") is not None:
        yield _launch(device)


def _launch(device: "torch.device") -> Finding:
    """Launch fastlm's rms_norm kernel on a small input and compare it with the reference."""
    import torch

    from fastlm import functional
    from fastlm.ops import load_kernels

    x = torch.arange(2 * 64, dtype=torch.float32, device=device).view(2, 64)
    weight = torch.ones(64, device=device)
    try:
        got = load_kernels().OPS["rms_norm"](x, weight)
    except Exception as error:  # Triton, its compiler and the driver raise many types
        return problem(
            str(device),
            f"Triton cannot run a kernel: {described(error)}",
            "install a C compiler, and a driver as new as torch's CUDA; until then use "
            "--triton-ops none and --no-compile",
        )
    expected = functional.rms_norm(x, weight)
    if not torch.allclose(got, expected, atol=1e-5):
        wrong = float((got - expected).abs().max())
        return problem(
            str(device),
            f"a Triton kernel computes a wrong result: off by {wrong:.3g} from its reference",
            "reinstall torch and triton together; until then use --triton-ops none and "
            "--no-compile",
        )
    return ok(str(device), "a Triton kernel runs and agrees with its reference")


def look_at_compiler() -> Iterator[Finding]:
    """Find the compilers and headers that torch.compile and Triton call."""
    remedy = f"install it ({INSTALL}), or leave out --compile"
    for language in ("C", "C++"):
        found, names = find_compiler(language)
        about = f"{language} compiler"
        yield ok(about, found) if found else note(about, f"none: looked for {names}", remedy)
    if not has_python_headers():
        yield note("Python's headers", "Python.h is not there", remedy)


def look_at_compiling() -> Iterator[Finding]:
    """Compile a small function with torch.compile; takes seconds."""
    import torch

    from fastlm.devices.hardware import choose_device

    device = choose_device()
    x = torch.linspace(-1, 1, 8, device=device)

    def twice_its_sine(x: torch.Tensor) -> torch.Tensor:
        return 2 * torch.sin(x)

    try:
        got = torch.compile(twice_its_sine, fullgraph=True)(x)
    except Exception as error:  # the compiler, the linker and the driver raise many types
        yield problem(
            "torch.compile",
            f"does not work on {device}: {described(error)}",
            f"install compilers and Python's headers ({INSTALL}); until then leave out --compile",
        )
        return
    assert torch.allclose(got, twice_its_sine(x))
    yield ok("torch.compile", f"works on {device}")


def look_at_machine_code() -> Iterator[Finding]:
    """Find the folder that keeps the compiled kernels of the tokenizer."""
    if _version("numba") is None:
        return
    from fastlm.tokenizer.bpe.machine_code import REMEDY, find_file, find_folder

    about = "tokenizer kernels"
    if (file := find_file()) is not None:
        yield ok(about, f"kept in {file}")
    elif (folder := find_folder()) is not None:
        yield ok(
            about, f"not compiled yet; the first long text does it, and keeps them in {folder}"
        )
    else:
        text = "no folder to keep them in, so each process compiles them anew, for about 10 s"
        yield note(about, text, REMEDY)


def look_at_folders() -> Iterator[Finding]:
    """Check free space, permissions and locks where runs and temporary files are written."""
    for about, folder in (("this folder", Path.cwd()), ("temporary", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free
        text = f"{folder}: {human_bytes(free)} free"
        elsewhere = (
            "set TMPDIR to another folder" if about == "temporary" else "work in another folder"
        )
        if not os.access(folder, os.W_OK):
            yield problem(about, f"{folder} cannot be written to", f"{elsewhere}")
        elif free < _NO_SPACE:
            yield problem(about, text, f"make room, or {elsewhere}: checkpoints take gigabytes")
        elif free < _LITTLE_SPACE:
            yield note(about, text, f"make room, or {elsewhere}: checkpoints take gigabytes")
        else:
            yield ok(about, text)
        if os.access(folder, os.W_OK) and (reason := lock_fails(folder)):
            yield note(
                about,
                f"{folder} has no file locks: {reason}",
                "set TORCHINDUCTOR_CACHE_DIR, TRITON_CACHE_DIR and XDG_CACHE_HOME to folders on a "
                "local disk: processes share these caches",
            )


def lock_fails(folder: Path) -> str:
    """The error of locking a file in the folder; empty if it works or is not needed."""
    try:
        import fcntl
    except ImportError:  # Windows has other locks
        return ""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def look_at_memory() -> Iterator[Finding]:
    """Check main memory, CPU cores and shared memory."""
    import torch

    from fastlm.devices.hardware import free_memory

    free = free_memory(torch.device("cpu"))
    text = f"{human_bytes(free)} available"
    if free < _LITTLE_MEMORY:
        yield note("memory", text, "end other processes: preparing data takes some gigabytes")
    else:
        yield ok("memory", text)
    n_cores, n_ours = os.cpu_count() or 1, _usable_cores()
    limited = f", of {n_cores}" if n_ours < n_cores else ""
    yield ok("CPU", f"{n_ours} usable cores{limited}")
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).total
        if size < _LITTLE_SHARED_MEMORY:
            yield note(
                "/dev/shm",
                f"{human_bytes(size)} of shared memory",
                "training on several GPUs needs more: docker run --shm-size=8g, or --ipc=host",
            )
        else:
            yield ok("/dev/shm", f"{human_bytes(size)} of shared memory")


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def look_at_data() -> Iterator[Finding]:
    """Check the prepared folders below data/."""
    from fastlm.data.prepared import open_prepared

    folders = sorted(path.parent for path in Path("data").glob("*/meta.json"))
    for folder in folders:
        try:
            data = open_prepared(folder)
            data.verify()
        except (ValueError, OSError) as error:
            remedy = "prepare it again: fastlm data prepare"
            yield problem(str(folder), " ".join(str(error).split()), remedy)
        else:
            n_tokens = len(data.train.tokens)
            yield ok(str(folder), f"{n_tokens:,} tokens, vocabulary of {data.vocab_size:,}")
    if not folders:
        yield ok("data", "nothing prepared in data/: fastlm train makes its own stories")


def look_at_slurm() -> Iterator[Finding]:
    """Check that Slurm's commands are all there, or none."""
    found = [name for name in SLURM if shutil.which(name)]
    missing = [name for name in SLURM if name not in found]
    if found and missing:
        yield note("Slurm", f"{', '.join(missing)} not found", "load the cluster's Slurm module")
    else:
        yield ok("Slurm", ", ".join(found) or "not installed, and not needed")


Look = Callable[[], Iterator[Finding]]
WITH_TORCH: tuple[Look, ...] = (look_at_kernels, look_at_gpus, look_at_memory, look_at_data)
LOOKS: tuple[Look, ...] = (look_at_compiler, look_at_machine_code, look_at_folders, look_at_slurm)


def lines_of(finding: Finding) -> list[str]:
    """A line with the finding and, if there is a remedy, a second one with it."""
    first = f"{finding.state:8} {finding.about}: {finding.text}"
    return [first, f"{'':8} -> {finding.remedy}"] if finding.remedy else [first]


def _examine(compile: bool = False) -> None:
    """Check this machine: versions, GPUs, memory, disks, compilers and data; say what to fix.

    The exit code is 1 if there is a problem; notes alone leave it at 0.

    Args:
        compile: also compile a small function with torch.compile, which takes seconds.
    """
    looks: list[Look] = [look_at_python, look_at_packages]
    if not torch_fails():
        looks += [*WITH_TORCH, look_at_compiling] if compile else WITH_TORCH
    looks += LOOKS
    has_problem = False
    for look in looks:
        for finding in look():
            has_problem |= finding.state == "problem"
            print("\n".join(lines_of(finding)), flush=True)
    if has_problem:
        sys.exit(1)


ARGUMENTS = _examine


def main(argv: Sequence[str] | None = None) -> None:
    """The command line of fastlm.doctor."""
    cli.parse(ARGUMENTS, argv, prog=cli.program("doctor"))


if __name__ == "__main__":
    cli.run(main)
