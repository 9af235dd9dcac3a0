"""The machine code of the kernels: compiled once on each machine, kept in a file, and loaded.

The file holds a SHA-256 of all that follows it, so that a damaged file is never run, and a key: the
sources of this folder, the processor, and the versions of Python, numba and llvmlite. A file with
another key is left alone and not used.

It lies in __pycache__ beside the sources, or else in the user's cache. A folder that somebody else
can write to is never used, as others could put their code there: hence no temporary folder.

Without a file, compiling takes some seconds in each process; a note says why there is none.
"""

import contextlib
import ctypes
import hashlib
import json
import mmap
import os
import stat
import struct
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fastlm import __version__
from fastlm.files.paths import open_to_read

_FOLDER = Path(__file__).resolve().parent
_MAGIC = b"fastlm kernels 1\n"
_MAX_BYTES = 1 << 26
_HASH_BYTES = 32
_MAX_FILES = 8

CALLED, SHARED = "called.", "shared."
"""Prefixes of the names of functions that CPython calls, and of those that kernels call"""

OUTSIDE = (
    "PyLong_AsLongLong",
    "PyLong_FromLongLong",
    "PyEval_SaveThread",
    "PyEval_RestoreThread",
    "PyErr_Occurred",
    "PyErr_BadArgument",
    "PyErr_BadInternalCall",
)
"""Functions of CPython that the machine code calls"""

REMEDY = "set XDG_CACHE_HOME to a folder that only you can write to"


class Loaded(NamedTuple):
    """The compiled functions: those for Python, and the addresses of those for kernels."""

    functions: Mapping[str, Callable[..., int]]
    addresses: Mapping[str, int]


_lock = threading.Lock()
_loaded: list[Loaded] = []
_kept_alive: list[Any] = []
_failed: list[str] = []
"""Why the functions can be neither loaded nor compiled, once that is known"""
_told: list[str] = []
"""The warning of this process, once it is given"""


def loaded() -> Loaded:
    """Return the compiled functions: loaded from their file, or else compiled now and kept."""
    with _lock:
        if not _loaded:
            _loaded.append(_load_kept() or _compile())
        return _loaded[0]


def can_be_loaded() -> bool:
    """Whether loaded() returns; if it raises an error, one warning says so, and Python goes on."""
    if _failed:
        return False
    try:
        loaded()
    except Exception as error:  # numba is missing, of a strange version, or memory is not executed
        reason = str(error).strip().partition("\n")[0]
        _failed.append(f"{type(error).__name__}: {reason}")
        _warn(
            f"the tokenizer's kernels cannot be compiled ({_failed[0]}): plain Python does their "
            "work, with the same results and far more slowly; `fastlm doctor` looks at packages"
        )
        return False
    return True


def is_at_hand() -> bool:
    """Whether the functions are loaded, or can be loaded from their file, which is then done."""
    with _lock:
        if not _loaded and (found := _load_kept()) is not None:
            _loaded.append(found)
        return bool(_loaded)


def forget() -> None:
    """Let the next call of loaded() look for the file again."""
    _loaded.clear()


# The file.


def key() -> str:
    """Return a hash of all that machine code depends on."""
    digest = hashlib.sha256()
    system = (sys.version, sys.platform, f"{sys.maxsize} {sys.byteorder}", __version__)
    for part in (*system, *_processor(), _version_file("numba"), _version_file("llvmlite")):
        data = part if isinstance(part, bytes) else part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    for path in sorted(_FOLDER.glob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.name}:{len(content)}:".encode() + content)
    return digest.hexdigest()


_OF_A_PROCESSOR = (
    b"vendor_id",
    b"cpu family",
    b"model",
    b"model name",
    b"stepping",
    b"flags",
    b"CPU implementer",
    b"CPU architecture",
    b"CPU variant",
    b"CPU part",
    b"Features",
)


def _processor() -> list[bytes | str]:
    """Return the name and the features of the processor."""
    try:
        with open("/proc/cpuinfo", "rb", buffering=0) as file:
            first = file.read(1 << 14).partition(b"\n\n")[0]
    except OSError:  # not Linux
        import llvmlite.binding as llvm  # type: ignore[import-untyped]

        return [llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    return [line for line in first.splitlines() if line.partition(b"\t")[0] in _OF_A_PROCESSOR]


def _version_file(package: str) -> bytes:
    """Return the file that states the version of a package, which is not imported."""
    for folder in sys.path:
        try:
            return Path(folder, package, "_version.py").read_bytes()
        except OSError:
            continue
    return b""


class _Place(NamedTuple):
    """A folder in which the file may lie."""

    folder: Path
    is_beside_sources: bool


def places() -> list[_Place]:
    """Return the folders in which the file may lie, the one preferred first."""
    found = []
    if __spec__.cached is not None:  # sources in an archive have no __pycache__
        found.append(_Place(Path(__spec__.cached).absolute().parent, True))
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):
        cache = os.path.expanduser(os.path.join("~", ".cache"))
    if os.path.isabs(cache):  # there may be no home folder
        found.append(_Place(Path(cache, "fastlm", "kernels"), False))
    return found


def _is_private(status: os.stat_result) -> bool:
    """Whether only this user, the administrator and the owner of the sources can write."""
    if not hasattr(os, "geteuid"):  # on Windows the user's folders are private
        return True
    owners = (0, os.geteuid(), os.stat(__file__).st_uid)
    return status.st_uid in owners and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


class _Kept(NamedTuple):
    """The content of a file: what was told of the code, and the code."""

    path: Path
    header: dict[str, Any]
    code: bytes


def _read_kept() -> _Kept | None:
    """Read the file of this key from the first folder that has a sound one."""
    try:
        of_key = key()
    except OSError:  # the sources are in no files
        return None
    for folder, _ in places():
        path = folder / f"kernels-{of_key[:16]}.bin"
        try:
            if not _is_private(os.stat(folder)):
                continue
            with open_to_read(path) as file:
                if not _is_private(os.fstat(file.fileno())):
                    continue
                content = file.read(_MAX_BYTES)
        except OSError:
            continue
        if (unpacked := _unpack(content, of_key)) is not None:
            return _Kept(path, *unpacked)
    return None


def _load_kept() -> Loaded | None:
    kept = _read_kept()
    if kept is None:
        return None
    try:
        return _load(kept.header, kept.code)
    except (OSError, ValueError, ImportError, RuntimeError):  # memory is never executed here
        return None


def find_file() -> Path | None:
    """Return the file that the functions are loaded from; None if there is none."""
    kept = _read_kept()
    return None if kept is None else kept.path


def find_folder() -> Path | None:
    """Return the folder that a file can be written to; None if there is none."""
    return next((place.folder for place in places() if not _refusal(place)), None)


def _refusal(place: _Place) -> str:
    """Why the file is not written to a folder, which is made; empty if it is."""
    from fastlm.files.folders import make_folder

    folder, is_beside = place
    if is_beside and sys.dont_write_bytecode:
        return f"Python is told to write nothing to {folder}"
    try:
        if make_folder(folder) and not is_beside:
            folder.chmod(0o700)  # whatever the umask is, as others could put their code here
        if not _is_private(os.stat(folder)):
            return f"others can write to {folder}"
    except OSError as error:
        return f"{error.strerror or error} in {folder}"
    return "" if os.access(folder, os.W_OK) else f"{folder} cannot be written to"


def _pack(header: Mapping[str, Any], code: bytes) -> bytes:
    body = json.dumps(header).encode() + b"\n" + code
    return _MAGIC + hashlib.sha256(body).digest() + body


def _unpack(content: bytes, of_key: str) -> tuple[Any, bytes] | None:
    """Return (header, code); None if the content is damaged, or of another key."""
    begin = len(_MAGIC) + _HASH_BYTES
    body = content[begin:]
    if content[:begin] != _MAGIC + hashlib.sha256(body).digest():
        return None
    line, _, code = body.partition(b"\n")
    header = json.loads(line)
    return (header, code) if header["key"] == of_key else None


def _keep(of_key: str, content: bytes) -> None:
    """Write the file to the first folder that takes it."""
    from fastlm.files.disk import whole_file

    reasons = []
    for place in places():
        if reason := _refusal(place):
            reasons.append(reason)
            continue
        try:
            with contextlib.suppress(FileNotFoundError):  # another process removes them too
                _remove_old(place.folder)
            with whole_file(place.folder / f"kernels-{of_key[:16]}.bin", replace=True) as file:
                if hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), 0o644)
                file.write(content)
            return
        except BlockingIOError:  # another process writes it
            return
        except OSError as error:
            reasons.append(f"{error.strerror or error} in {place.folder}")
    _tell_of_loss(f"machine code is not kept ({'; '.join(reasons) or 'there is no home folder'})")


def _remove_old(folder: Path) -> None:
    """Leave room for one more file: machines that share a folder have a file each."""
    from fastlm.files.disk import remove_file

    found = sorted(folder.glob("kernels-*.bin"), key=lambda path: path.stat().st_mtime)
    for path in found[: max(len(found) - _MAX_FILES + 1, 0)]:
        remove_file(path)


def _tell_of_loss(what: str) -> None:
    _warn(
        f"{what}: each process that needs the tokenizer's kernels compiles them anew, which takes "
        f"about 10 s; {REMEDY}"
    )


def _warn(text: str) -> None:
    """Warn once, and not from the workers of a process that warns itself."""
    import multiprocessing

    if not _told and multiprocessing.parent_process() is None:
        _told.append(text)
        warnings.warn(text, stacklevel=2)


# Compiling and loading.


def _compile() -> Loaded:
    header, code = build()
    try:
        of_key = key()
    except OSError as error:
        _tell_of_loss(f"machine code is not kept ({error.strerror})")
    else:
        _keep(of_key, _pack({"key": of_key, **header}, code))
    return _load(header, code)


def build() -> tuple[dict[str, Any], bytes]:
    """Compile the kernels to (header, code)."""
    from fastlm.tokenizer.bpe.build import build as compile_all
    from fastlm.tokenizer.bpe.link import LinkError, link

    built = compile_all()
    if sys.platform == "linux":
        try:
            image = link(built.code, built.names)
        except LinkError:
            pass
        else:
            header = {"names": image.names, "slots": image.slots, "absolute": image.absolute}
            return {"form": "image", **header}, image.code
    return {"form": "object", "names": built.names}, built.code


def _load(header: Mapping[str, Any], code: bytes) -> Loaded:
    addresses = (_map_image if header["form"] == "image" else _add_object)(header, code)
    return Loaded(
        {
            name.removeprefix(CALLED): _as_callable(address)
            for name, address in addresses.items()
            if name.startswith(CALLED)
        },
        {
            name.removeprefix(SHARED): address
            for name, address in addresses.items()
            if name.startswith(SHARED)
        },
    )


def _map_image(header: Mapping[str, Any], code: bytes) -> dict[str, int]:
    """Copy an image (link.py) to memory that is then executed and no longer written."""
    memory = mmap.mmap(-1, len(code), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    memory.write(code)
    for name, slot in header["slots"].items():
        struct.pack_into("<Q", memory, slot, _address_outside(name))
    for place in header["absolute"]:
        struct.pack_into("<Q", memory, place, struct.unpack_from("<Q", memory, place)[0] + address)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    if protect(address, len(code), mmap.PROT_READ | mmap.PROT_EXEC) != 0:
        raise OSError(ctypes.get_errno(), "memory cannot be made executable")
    _kept_alive.append(memory)
    return {name: address + offset for name, offset in header["names"].items()}


def _address_outside(name: str) -> int:
    """Address of a function of CPython or of the C library."""
    library = ctypes.pythonapi if name.startswith("Py") else ctypes.CDLL(None)
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


def _add_object(header: Mapping[str, Any], code: bytes) -> dict[str, int]:
    """Load an object file with LLVM."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for name in OUTSIDE:  # on some systems LLVM does not find them by itself
        llvm.add_symbol(name, _address_outside(name))
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _kept_alive.append(engine)
    return {name: engine.get_function_address(name) for name in header["names"]}


class _Method(ctypes.Structure):
    """PyMethodDef of CPython."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("documentation", ctypes.c_char_p),
    )


_FASTCALL = 0x80  # METH_FASTCALL: arguments come as an array


def _as_callable(address: int) -> Callable[..., int]:
    """Make a function of Python from the address of one that CPython can call."""
    method = _Method(b"kernel", address, _FASTCALL, None)
    _kept_alive.append(method)
    new = ctypes.PYFUNCTYPE(ctypes.py_object, *(ctypes.c_void_p,) * 3)
    make = new(("PyCFunction_NewEx", ctypes.pythonapi))
    made: Callable[..., int] = make(ctypes.addressof(method), None, None)
    return made
