"""The kept machine code is run only if it is whole, of this machine, and nobody else's."""

import errno
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

from fastlm.files import disk
from fastlm.tokenizer import Tokenizer, train_bpe_from_documents
from fastlm.tokenizer.__main__ import main
from fastlm.tokenizer.bpe import (
    build,
    compiler,
    lazy_encoder,
    learn,
    link,
    machine_code,
    token_bytes,
)
from fastlm.tokenizer.bpe.count import _count
from fastlm.tokenizer.bpe.decode import Decoder, _decode

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def built() -> build.Built:
    """An object file with few kernels, which is compiled quickly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "import_all", lambda: None)
        patch.setattr(compiler, "KERNELS", [_decode])
        patch.setattr(compiler, "SHARED", [])
        return build.build()


@pytest.fixture
def kept(tmp_path, monkeypatch, built):
    """The folder of the file, in which nothing is yet; compiling gives the few kernels."""
    image = link.link(built.code, built.names)
    header = {"names": image.names, "slots": image.slots, "absolute": image.absolute}
    monkeypatch.setattr(machine_code, "build", lambda: ({"form": "image", **header}, image.code))
    folder = tmp_path / "kept"
    monkeypatch.setattr(machine_code, "places", lambda: [machine_code._Place(folder, False)])
    monkeypatch.setattr(machine_code, "_loaded", [])
    monkeypatch.setattr(machine_code, "_told", [])
    monkeypatch.setattr(machine_code, "_failed", [])
    return folder


def warned(call) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught]


def decoded(loaded: machine_code.Loaded, monkeypatch) -> bytes:
    import numpy as np

    monkeypatch.setitem(vars(_decode), "compiled", loaded.functions["decode._decode"])
    return Decoder(b"abc", np.array([0, 1, 3])).decode(np.array([1, 0, 1]))


def test_compiled_once_and_then_loaded(kept, monkeypatch):
    assert not machine_code.is_at_hand()
    assert decoded(machine_code.loaded(), monkeypatch) == b"bcabc"
    (file,) = kept.iterdir()
    assert os.stat(kept).st_mode & 0o777 == 0o700
    machine_code.forget()
    monkeypatch.setattr(machine_code, "build", pytest.fail)
    assert machine_code.is_at_hand()
    assert machine_code.find_file() == file
    assert decoded(machine_code.loaded(), monkeypatch) == b"bcabc"


def test_llvm_loads_what_the_linker_does_not_know(built, monkeypatch):
    loaded = machine_code._load({"form": "object", "names": built.names}, built.code)
    assert decoded(loaded, monkeypatch) == b"bcabc"


def test_no_damaged_byte_is_run(kept, monkeypatch):
    machine_code.loaded()
    (file,) = kept.iterdir()
    whole = file.read_bytes()
    monkeypatch.setattr(machine_code, "_load", pytest.fail)
    places = [*range(400), *range(400, len(whole), 97), len(whole) - 1]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        assert machine_code.find_file() is None
    for n_bytes in places:
        file.write_bytes(whole[:n_bytes])
        assert machine_code.find_file() is None
    file.write_bytes(whole + b"\0")
    assert machine_code._load_kept() is None
    file.write_bytes(whole)
    assert machine_code.find_file() == file


def test_a_damaged_file_is_replaced(kept):
    machine_code.loaded()
    (file,) = kept.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    machine_code.forget()
    assert not warned(machine_code.loaded)
    assert file.read_bytes() == whole


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(kept):
    machine_code.loaded()
    (file,) = kept.iterdir()
    file.unlink()
    os.mkfifo(file)
    writer = threading.Timer(5, file.write_bytes, [b""])  # ends a wait that should not be
    writer.daemon = True
    writer.start()
    begun = time.monotonic()
    assert machine_code.find_file() is None
    assert time.monotonic() - begun < 4
    writer.cancel()
    machine_code.forget()
    (warning,) = warned(machine_code.loaded)
    assert "machine code is not kept (" in warning
    assert file.is_fifo()  # it is nobody's to remove


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (machine_code, "_processor", lambda: [b"flags: avx1024"]),
        (machine_code, "_version_file", lambda package: package.encode()),
        (machine_code, "__version__", "99"),
        (sys, "version", "3.99"),
        (sys, "platform", "plan9"),
        (Path, "read_bytes", lambda path: b"another source"),
    ],
)
def test_the_file_of_another_machine_is_not_used(kept, monkeypatch, owner, name, value):
    machine_code.loaded()
    (file,) = kept.iterdir()
    assert machine_code.find_file() == file
    monkeypatch.setattr(owner, name, value)
    assert machine_code.find_file() is None
    file.rename(kept / f"kernels-{machine_code.key()[:16]}.bin")
    assert machine_code.find_file() is None


def test_the_key_holds_the_processor_and_both_packages():
    assert machine_code._version_file("numba")
    assert machine_code._version_file("llvmlite")
    assert any(len(line) > 10 for line in machine_code._processor())


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such permissions")
@pytest.mark.parametrize("of_file", [False, True])
@pytest.mark.parametrize("bit", [0o020, 0o002])
def test_what_others_can_write_is_neither_run_nor_written(kept, of_file, bit):
    machine_code.loaded()
    (file,) = kept.iterdir()
    path = file if of_file else kept
    path.chmod(path.stat().st_mode | bit)
    assert machine_code.find_file() is None
    if not of_file:
        (line,) = warned(lambda: machine_code._keep("0" * 64, b""))
        assert f"others can write to {kept}" in line
        assert [*kept.iterdir()] == [file]


def test_others_files_are_not_run(kept, monkeypatch):
    machine_code.loaded()
    if hasattr(os, "geteuid"):
        (file,) = kept.iterdir()
        own = os.stat(file)
        other = os.stat_result((*own[:4], 12345, *own[5:]))
        assert machine_code._is_private(own)
        assert not machine_code._is_private(other)


def test_where_nothing_can_be_written_one_warning_says_so(kept, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "whole_file", refuse)
    (line,) = warned(machine_code.loaded)
    for part in ("No space left on device", str(kept), "compiles them anew", "XDG_CACHE_HOME"):
        assert part in line
    machine_code.forget()
    assert not warned(machine_code.loaded)


def test_without_a_home_folder_one_warning_says_so(kept, monkeypatch):
    monkeypatch.setattr(machine_code, "places", list)
    (line,) = warned(machine_code.loaded)
    assert "no home folder" in line


def test_workers_do_not_repeat_the_warning(kept, monkeypatch):
    monkeypatch.setattr(machine_code, "places", list)
    monkeypatch.setattr(multiprocessing, "parent_process", multiprocessing.current_process)
    assert not warned(machine_code.loaded)


def test_a_file_where_the_folder_should_be_is_told(kept):
    kept.write_text("a file")
    (line,) = warned(machine_code.loaded)
    assert f"{kept} is no folder" in line
    assert machine_code.find_folder() is None


def test_another_process_that_writes_is_not_waited_for(kept):
    machine_code.find_folder()
    with disk.locked(kept / f"kernels-{machine_code.key()[:16]}.bin"):
        assert not warned(machine_code.loaded)
    assert not [path for path in kept.iterdir() if path.suffix == ".bin"]


def test_where_nothing_can_be_compiled_python_goes_on_and_one_warning_says_so(kept, monkeypatch):
    def fail():
        raise ImportError("No module named 'numba'")

    monkeypatch.setattr(machine_code, "build", fail)
    monkeypatch.setattr(lazy_encoder, "SMALL_CHARACTERS", 5)
    monkeypatch.setattr(learn, "SMALL_BYTES", 5)
    monkeypatch.setattr(token_bytes, "KERNEL_TOKENS", 5)

    def use():
        vocab, merges = train_bpe_from_documents(["low low lower"] * 9, 258, [])
        tokenizer = Tokenizer(vocab, merges)
        assert merges == [(b"o", b"w"), (b"l", b"ow")]
        assert tokenizer.decode(tokenizer.encode("low lower")) == "low lower"
        assert tokenizer.encode_to_numpy("lower").tolist() == [257, 101, 114]

    (line,) = warned(use)
    for part in ("No module named 'numba'", "plain Python", "fastlm doctor"):
        assert part in line
    assert not warned(use)


def test_files_of_other_machines_stay_but_not_for_ever(kept):
    machine_code.find_folder()
    for number in range(20):
        other = kept / f"kernels-{number:016}.bin"
        other.write_bytes(b"of another machine")
        os.utime(other, (number, number))
    machine_code.loaded()
    left = {path.name for path in kept.glob("kernels-*.bin")}
    assert left == {machine_code.find_file().name} | {
        f"kernels-{number:016}.bin" for number in range(13, 20)
    }


def test_the_command_compiles_and_says_where_the_kernels_are(kept, capsys):
    main(["compile"])
    (file,) = kept.iterdir()
    assert capsys.readouterr().out == f"{file} holds the kernels for this machine\n"


def test_kernels_refuse_wrong_arguments():
    function = _count.compiled
    for arguments, error in (
        ((), TypeError),
        ((1, 2, 3), TypeError),
        ((1, 2, 3, 4, 5), TypeError),
        (("1", 2, 3, 4), TypeError),
        ((1.0, 2, 3, 4), TypeError),
        ((1, 2, 3, 1 << 64), OverflowError),
        ((1, 2, None, 4), TypeError),
    ):
        with pytest.raises(error):
            function(*arguments)


def test_the_linker_refuses_what_it_does_not_know(built):
    for n_bytes in (0, 5, 20, 64):
        with pytest.raises(link.LinkError):
            link.link(built.code[:n_bytes], built.names)
    with pytest.raises(link.LinkError, match="no function 'called.none'"):
        link.link(built.code, [*built.names, "called.none"])
    for machine in (183, 3):  # aarch64, i386
        other = bytearray(built.code)
        other[18:20] = machine.to_bytes(2, "little")
        with pytest.raises(link.LinkError):
            link.link(bytes(other), built.names)


def test_machine_code_needs_nothing_but_cpython_and_the_c_library(built):
    image = link.link(built.code, built.names)
    outside = set(image.slots)
    assert outside - {"memset", "memcpy", "memmove", "memcmp"} <= set(machine_code.OUTSIDE)


WARM = """
import json, sys
from fastlm.tokenizer import Tokenizer
tokenizer = Tokenizer({byte: bytes([byte]) for byte in range(256)}, [])
assert tokenizer.encode("abc" * 1000) == [97, 98, 99] * 1000
slow = {"numba", "llvmlite", "numpy", "jaxtyping", "torch", "regex", "transformers"}
print(json.dumps(sorted(slow & set(sys.modules))))
"""


def test_where_machine_code_is_kept_no_compiler_is_imported():
    machine_code.loaded()
    done = subprocess.run(
        [sys.executable, "-c", WARM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
