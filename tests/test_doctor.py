"""`fastlm doctor` describes simulated machines, and says how to fix them."""

import errno
import fcntl
import os
import re
import shutil
import sys
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch

from fastlm import doctor, ops
from fastlm.devices import compilers, hardware
from fastlm.tokenizer.bpe import machine_code

Usage = namedtuple("Usage", "total used free")
GIB = 1 << 30


def states(look) -> list[tuple[str, str]]:
    return [(finding.state, finding.about) for finding in look()]


def one(look, about: str, containing: str = "") -> doctor.Finding:
    (found,) = [f for f in look() if f.about == about and containing in f.text]
    return found


def test_this_machine_is_looked_at_and_the_exit_code_follows(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        doctor.main([])
        code = 0
    except SystemExit as end:
        code = end.code
    lines = capsys.readouterr().out.splitlines()
    found = [line for line in lines if not line.startswith(" ")]
    assert all(re.match(r"(ok|note|problem) +[^:]+: .", line) for line in found)
    assert len(found) > 10
    for name in ("Python", "fastlm", "torch", "numpy", "numba", "memory", "CPU", "Slurm"):
        assert any(f" {name}: " in line for line in found), name
    assert code == any(line.startswith("problem") for line in found)


def test_what_is_not_ok_has_a_remedy_on_a_line_of_its_own(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "LOOKS", (lambda: iter([doctor.note("x", "slow", "do this")]),))
    monkeypatch.setattr(doctor, "WITH_TORCH", ())
    doctor.main([])
    assert capsys.readouterr().out.endswith("note     x: slow\n         -> do this\n")
    monkeypatch.setattr(
        doctor, "LOOKS", (lambda: iter([doctor.problem("x", "broken", "mend it")]),)
    )
    with pytest.raises(SystemExit) as end:
        doctor.main([])
    assert end.value.code == 1
    assert capsys.readouterr().out.endswith("problem  x: broken\n         -> mend it\n")


def test_an_old_python(monkeypatch):
    monkeypatch.setattr(doctor, "OLDEST_PYTHON", (9, 0))
    assert one(doctor.look_at_python, "Python") == doctor.problem(
        "Python", one(doctor.look_at_python, "Python").text, "install Python 9.0 or newer, and fastlm into that one",
    )  # fmt: skip


def test_no_folder_for_the_machine_code_of_the_tokenizer(monkeypatch):
    assert one(doctor.look_at_machine_code, "tokenizer kernels").state == "ok"
    monkeypatch.setattr(machine_code, "places", list)
    found = one(doctor.look_at_machine_code, "tokenizer kernels", "each process compiles")
    assert found.state == "note"
    assert "XDG_CACHE_HOME" in found.remedy


def pretend_versions(monkeypatch, **changes: str | None) -> None:
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda n: changes[n] if n in changes else real(n))


def test_packages_that_are_missing(monkeypatch):
    pretend_versions(monkeypatch, torch=None, triton=None, numba=None)
    assert one(doctor.look_at_packages, "torch") == (
        "problem",
        "torch",
        "not installed",
        "pip install torch",
    )
    assert one(doctor.look_at_packages, "numba").remedy == "pip install numba"
    monkeypatch.setattr(sys, "platform", "linux")
    missing = one(doctor.look_at_packages, "triton")
    assert (missing.state, missing.remedy.split(";")[0]) == ("note", "pip install triton")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert one(doctor.look_at_packages, "triton").state == "ok"


@pytest.mark.parametrize(
    ("version", "state"),
    [("2.10.0", "note"), ("2.11.0+cu128", "ok"), ("2.13.9", "ok"), ("2.14.0.dev2026", "note"), ("git", "note")],
)  # fmt: skip
def test_releases_of_torch_that_are_not_tested_are_named(version, state, monkeypatch):
    pretend_versions(monkeypatch, torch=version)
    found = one(doctor.look_at_packages, "torch")
    assert found.state == state
    assert found.remedy == ('pip install "torch>=2.11,<2.14"' if state == "note" else "")


def test_the_tested_releases_are_those_the_package_asks_for():
    with open(
        os.path.join(os.path.dirname(__file__), "..", "pyproject.toml"), encoding="utf-8"
    ) as f:
        wanted = re.search(r'"torch>=(\d+)\.(\d+),<(\d+)\.(\d+)"', f.read())
    first, end = doctor.TORCH
    assert tuple(map(int, wanted.groups())) == (*first, *end)


def test_a_torch_that_cannot_be_imported(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "torch_fails", lambda: "libcudart.so.13: cannot open")
    found = one(doctor.look_at_packages, "torch", "imported")
    assert found.state == "problem"
    assert "libcudart.so.13" in found.text
    with pytest.raises(SystemExit):
        doctor.main([])
    told = capsys.readouterr().out
    assert "memory:" not in told
    assert "Slurm:" in told


def test_kernels_that_are_not_found(monkeypatch):
    pretend_versions(monkeypatch, triton="3.6.0")

    def fails():
        raise ImportError("expected /x/kernels to be importable, got another one, /site/kernels")

    monkeypatch.setattr(ops, "load_kernels", fails)
    found = one(doctor.look_at_kernels, "kernels")
    assert (found.state, "another one, /site/kernels" in found.text) == ("note", True)
    assert "run from fastlm's folder" in found.remedy


def test_another_package_kernels_is_told_of(monkeypatch):
    pretend_versions(monkeypatch, triton="3.6.0")
    ours = SimpleNamespace(
        __name__="fastlm.kernels", __file__="/site/fastlm/kernels/__init__.py", OPS={"a": 1}
    )
    monkeypatch.setattr(ops, "load_kernels", lambda: ours)
    monkeypatch.setattr(
        doctor, "find_spec", lambda name: SimpleNamespace(origin="/site/kernels/__init__.py")
    )
    assert one(doctor.look_at_kernels, "kernels") == doctor.ok(
        "kernels", "fastlm.kernels, 1 operations; another package named kernels, /site/kernels/__init__.py, is not used",
    )  # fmt: skip


def no_gpu(monkeypatch, *, known=(), cuda: str | None = None, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(hardware, "driver_gpus", lambda: list(known))


def test_no_gpu(monkeypatch):
    no_gpu(monkeypatch)
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: False)
    assert one(doctor.look_at_gpus, "GPU") == doctor.note(
        "GPU", "none; this CPU computes --bf16 in float32", "small recipes train on a CPU: --recipe stories or tiny",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cuda", "remedy"), [(None, "install a CUDA build of torch"), ("13.0", "update the driver for CUDA 13.0")]
)  # fmt: skip
def test_a_gpu_that_torch_cannot_use(cuda, remedy, monkeypatch):
    no_gpu(monkeypatch, known=[("NVIDIA T4", "470.1")], cuda=cuda)
    found = one(doctor.look_at_gpus, "GPU")
    assert found.state == "problem"
    assert found.text.startswith("NVIDIA T4, driver 470.1: torch ")
    assert found.remedy.startswith(remedy)


@pytest.mark.parametrize(("is_new", "state"), [(True, "ok"), (False, "note")])
def test_an_apple_gpu(is_new, state, monkeypatch):
    no_gpu(monkeypatch, mps=True)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: is_new)
    found = one(doctor.look_at_gpus, "GPU")
    assert found.state == state
    assert bool(found.remedy) != is_new


def pretend_gpu(monkeypatch, *, capability=(9, 0), free=70 * GIB, bf16=True, others=()) -> None:
    properties = SimpleNamespace(name="NVIDIA X", total_memory=80 * GIB, uuid="1-2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)
    monkeypatch.setattr(hardware, "free_memory", lambda device: free)
    monkeypatch.setattr(hardware, "driver_gpus", lambda: [("NVIDIA X", "580.1")])
    monkeypatch.setattr(hardware, "gpu_processes", lambda uuid: list(others))
    monkeypatch.setattr(doctor, "_launch", lambda device: doctor.ok(str(device), "launched"))


def test_a_gpu_with_all_it_needs(monkeypatch):
    pretend_gpu(monkeypatch)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    pretend_versions(monkeypatch, triton="3.6.0")
    found = list(doctor.look_at_gpus())
    assert found[0].text == "NVIDIA X, 80.0 GiB, compute capability 9.0, driver 580.1, CUDA 13.0"
    assert [f.state for f in found] == ["ok"] * 4
    assert found[-1].text == "launched"


def test_a_gpu_that_others_use(monkeypatch):
    pretend_gpu(monkeypatch, free=10 * GIB, others=[41, 42])
    found = one(doctor.look_at_gpus, "cuda:0", "taken")
    assert found.state == "note"
    assert found.text == "70.0 GiB of its memory is taken by process 41, 42, 10.0 GiB free"
    assert "CUDA_VISIBLE_DEVICES" in found.remedy


def test_an_old_gpu(monkeypatch):
    pretend_gpu(monkeypatch, capability=(7, 5), bf16=False)
    assert one(doctor.look_at_gpus, "cuda:0", "bfloat16").remedy == "leave out --bf16"
    assert one(doctor.look_at_gpus, "cuda:0", "float8").remedy == "leave out --fp8"


def test_a_kernel_that_cannot_run_or_computes_nonsense(monkeypatch):
    def loaded(rms_norm):
        monkeypatch.setattr(
            ops, "load_kernels", lambda: SimpleNamespace(OPS={"rms_norm": rms_norm})
        )
        return doctor._launch(torch.device("cpu"))

    def fails(x, weight):
        raise RuntimeError("Failed to find C compiler.\nmore")

    found = loaded(fails)
    assert found.state == "problem"
    assert found.text == "Triton cannot run a kernel: RuntimeError: Failed to find C compiler."
    assert "--triton-ops none" in found.remedy
    wrong = loaded(lambda x, weight: torch.zeros_like(x))
    assert wrong.state == "problem"
    assert "off by" in wrong.text


@pytest.mark.interpreter
def test_a_kernel_is_really_launched():
    found = doctor._launch(torch.device("cpu"))
    assert found == doctor.ok("cpu", "a Triton kernel runs and agrees with its reference")


@pytest.mark.gpu
def test_a_kernel_is_really_launched_on_a_gpu():
    assert doctor._launch(torch.device("cuda", 0)).state == "ok"


@pytest.mark.parametrize(
    ("language", "variable", "usual"),
    [("C", "CC", "cc, gcc, clang, cl"), ("C++", "CXX", "g++")],
)
def test_no_compiler(language, variable, usual, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")

    def found() -> doctor.Finding:
        (finding,) = (f for f in doctor.look_at_compiler() if f.about == f"{language} compiler")
        return finding

    assert found().state == "note"
    assert "apt-get install g++" in found().remedy
    for nothing in ("", " "):
        monkeypatch.setenv(variable, nothing)
        assert found().text == f"none: looked for {usual}"
    monkeypatch.setenv(variable, "mycc -O2")
    assert found().text == "none: looked for mycc"
    (tmp_path / "mycc").write_text("#!/bin/sh\n")
    (tmp_path / "mycc").chmod(0o755)
    assert found().text == str(tmp_path / "mycc")


def test_no_headers_of_python(monkeypatch, tmp_path):
    monkeypatch.setattr(compilers.sysconfig, "get_path", lambda name: str(tmp_path))
    assert [f.about for f in doctor.look_at_compiler() if f.state == "note"] == ["Python's headers"]
    assert compilers.lacks_for_cpu() == "Python's headers (Python.h)"


ERRORS = [
    (RuntimeError("no Python.h\nmore"), "RuntimeError: no Python.h"),
    (OSError("\n\nno ld\n"), "OSError: no ld"),
    (NotImplementedError(), "NotImplementedError"),
]


@pytest.mark.parametrize(("error", "told"), ERRORS)
def test_a_compiler_that_fails(error, told, monkeypatch):
    def compile(function, **options):
        raise error

    monkeypatch.setattr(torch, "compile", compile)
    found = one(doctor.look_at_compiling, "torch.compile")
    assert found.state == "problem"
    assert found.text == f"does not work on {hardware.choose_device()}: {told}"
    assert "python3-dev" in found.remedy


@pytest.mark.parametrize(("error", "told"), ERRORS)
def test_a_kernel_that_fails(error, told, monkeypatch):
    def load():
        raise error

    monkeypatch.setattr(ops, "load_kernels", load)
    found = doctor._launch(torch.device("cpu"))
    assert (found.state, found.text) == ("problem", f"Triton cannot run a kernel: {told}")


def test_a_torch_that_cannot_be_imported_without_a_word(monkeypatch):
    class Nothing:
        def find_spec(self, name, path=None, target=None):
            raise ImportError

    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(sys, "meta_path", [Nothing()])
    assert doctor.torch_fails() == "ImportError"


@pytest.mark.parametrize(
    ("free", "state"), [(GIB // 2, "problem"), (5 * GIB, "note"), (50 * GIB, "ok")]
)
def test_little_room_on_the_disk(free, state, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 * GIB, 0, free))
    found = one(doctor.look_at_folders, "this folder")
    assert found.state == state
    assert ("make room" in found.remedy) == (state != "ok")


def test_a_folder_that_cannot_be_written_to(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert states(doctor.look_at_folders) == [("problem", "this folder"), ("problem", "temporary")]
    assert one(doctor.look_at_folders, "temporary").remedy == "set TMPDIR to another folder"


def test_a_disk_without_locks(monkeypatch, tmp_path):
    assert doctor.lock_fails(tmp_path) == ""

    def flock(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    found = one(doctor.look_at_folders, "this folder", "locks")
    assert found.state == "note"
    assert found.text.endswith("has no file locks: No locks available")
    assert "TRITON_CACHE_DIR" in found.remedy


def test_little_memory_and_little_shared_memory(monkeypatch):
    monkeypatch.setattr(hardware, "free_memory", lambda device: GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(64 << 20, 0, 64 << 20))
    assert one(doctor.look_at_memory, "memory").state == "note"
    if os.path.isdir("/dev/shm"):
        assert "--shm-size" in one(doctor.look_at_memory, "/dev/shm").remedy


def test_cores_that_are_not_ours(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(doctor, "_usable_cores", lambda: 8)
    assert one(doctor.look_at_memory, "CPU").text == "8 usable cores, of 64"


def test_prepared_data_are_counted_and_damaged_ones_are_a_problem(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert one(doctor.look_at_data, "data").state == "ok"
    shutil.copytree(data, tmp_path / "data" / "good")
    shutil.copytree(data, tmp_path / "data" / "torn")
    with open(tmp_path / "data" / "torn" / "train.bin", "r+b") as file:
        file.truncate(100)
    good, torn = doctor.look_at_data()
    n_tokens = (data / "train.bin").stat().st_size // 2
    assert good.text == f"{n_tokens:,} tokens, vocabulary of 400"
    assert (torn.state, torn.remedy) == ("problem", "prepare it again: fastlm data prepare")


def test_half_of_slurm(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/sbatch" if name == "sbatch" else None)
    assert one(doctor.look_at_slurm, "Slurm") == doctor.note(
        "Slurm", "squeue, scancel, sinfo not found", "load the cluster's Slurm module"
    )
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert one(doctor.look_at_slurm, "Slurm").state == "ok"


def test_what_nvidia_smi_tells(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\n"
        f'case "$1" in *compute-apps*) echo "123"; echo "{os.getpid()}"; echo "[N/A]";;\n'
        '*) echo "NVIDIA T4, 580.1";; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert hardware.driver_gpus() == [("NVIDIA T4", "580.1")]
    assert hardware.gpu_processes("1-2") == [123]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert hardware.driver_gpus() == hardware.gpu_processes("1-2") == []
