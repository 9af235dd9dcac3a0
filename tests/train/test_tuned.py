"""A result of fastlm.tune is taken over where it fits, told in a line, and never by surprise."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import short_runs
import torch
from commands import TINY

from fastlm.config import DataConfig, OptimConfig, TrainConfig
from fastlm.devices.ranks import Ranks
from fastlm.ops import load_kernels
from fastlm.runs.record import RunRecord
from fastlm.train import command, tuned
from fastlm.train import micro_batch as micro_batch_module
from fastlm.train.assemble import set_up
from fastlm.train.command import main
from fastlm.train.tuned import (
    Choices,
    Conditions,
    Tuned,
    conditions_of,
    default_file,
    read_tuned,
    take_tuned,
    write_tuned,
)

CONFIG = TrainConfig(
    model=short_runs.MODEL, optim=OptimConfig(name="muon"), batch_size=8, max_steps=2, device="cpu"
)
FOUND = Choices(micro_batch=4, threads=1, optimizer_dtype="bfloat16")
ON_GPU = Choices(triton_ops="adamw,rms_norm", attention="flash", compile_scope="block")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """The user's cache folder, with no other place for files, nor a number of threads."""
    monkeypatch.delenv("FASTLM_TUNED_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path / "cache"


def conditions(config: TrainConfig) -> Conditions:
    setup = set_up(config)
    dtype, compiles = setup.compute_dtype, setup.compiles
    return conditions_of(config, setup.device, dtype=dtype, compiles=compiles)


def written(config: TrainConfig, choices: Choices = FOUND, path: Path | None = None) -> Path:
    """The file of a measurement for a configuration, by default where training finds it."""
    measured = conditions(config)
    path = path or default_file(measured)
    assert path is not None
    write_tuned(path, Tuned(measured, choices, {"tokens_per_second": {}}), replace=True)
    return path


def taken(config: TrainConfig, where: str = "auto", **options) -> tuned.Taken:
    return take_tuned(config, set_up(config), where, **options)


def test_without_a_file_nothing_changes_and_nothing_is_said():
    assert taken(CONFIG) == tuned.Taken(CONFIG)


def test_a_file_that_fits_is_taken_over_by_settings_that_say_auto_and_told(cache):
    path = written(CONFIG)
    assert path.parent == cache / "fastlm" / "tuned"
    config, note, used = taken(CONFIG)
    assert config == dataclasses.replace(
        CONFIG, micro_batch=4, threads=1, optimizer_dtype="bfloat16"
    )
    assert used == str(path)
    assert note == (
        "--micro-batch 4 --threads 1 --optimizer-dtype bfloat16, as fastlm.tune measured here "
        f"({path}; --tuned none: without)"
    )
    assert taken(CONFIG, "none") == tuned.Taken(CONFIG)


def test_what_a_file_holds_is_read_as_it_was_written():
    path = written(CONFIG)
    assert read_tuned(path) == Tuned(conditions(CONFIG), FOUND, {"tokens_per_second": {}})


def test_a_flag_wins(monkeypatch):
    written(CONFIG)
    given = dataclasses.replace(CONFIG, micro_batch=2, threads=2)
    config, note, _ = taken(given)
    assert (config.micro_batch, config.threads) == (2, 2)
    assert config.optimizer_dtype == "bfloat16"
    assert note.startswith("--optimizer-dtype bfloat16, as")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert taken(CONFIG).config.threads == "auto"
    everything = dataclasses.replace(given, optimizer_dtype="float32")
    assert taken(everything) == tuned.Taken(everything)


def test_a_flag_for_triton_chooses_attention_too():
    given = dataclasses.replace(CONFIG, triton_ops="none")
    assert tuned.with_choices(given, ON_GPU).attention == "auto"
    assert tuned.with_choices(CONFIG, ON_GPU).attention == "flash"
    fa3 = dataclasses.replace(CONFIG, attention="fa3")
    assert tuned.with_choices(fa3, ON_GPU).attention == "fa3"


def test_several_processes_take_over_only_how_operations_are_computed():
    both = dataclasses.replace(ON_GPU, **FOUND.made)
    config = tuned.with_choices(CONFIG, both, n_ranks=2)
    changed = {n for n in vars(both) if getattr(config, n) != "auto"}
    assert changed == {"triton_ops", "attention", "optimizer_dtype"}
    written(CONFIG)
    assert taken(CONFIG, n_ranks=2).config == dataclasses.replace(
        CONFIG, optimizer_dtype="bfloat16"
    )
    sharded = dataclasses.replace(CONFIG, parallel="fsdp")
    assert taken(sharded, n_ranks=2).config == sharded
    assert "without FSDP" in taken(sharded, n_ranks=2).note


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"versions": {"torch": "1.0", "triton": "x", "fastlm": "0"}}, "with torch 1.0, and this is"),
        ({"how": {"compile": True, "dtype": "float32", "fp8": False}}, "with compile true, and this"),
        ({"how": {}}, "with compile null, and this is false"),
    ],
)  # fmt: skip
def test_a_file_of_other_versions_or_flags_is_told_and_left_out(change, told):
    path = written(CONFIG)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    config, note, used = taken(CONFIG)
    assert (config, used) == (CONFIG, "")
    assert f"{path} was measured {told}" in note
    assert note.endswith(": its choices are left out")
    assert note.count("\n") == 0


def test_other_kernels_are_another_version(monkeypatch, tmp_path):
    pytest.importorskip("triton")
    monkeypatch.setattr(tuned, "identity", lambda device: {"type": "cuda", "name": "card"})

    def version() -> str:
        gpu = torch.device("cuda")
        return conditions_of(CONFIG, gpu, dtype=torch.bfloat16, compiles=True).versions["kernels"]

    ours = version()
    assert ours == version()
    copy = tmp_path / "kernels"
    shutil.copytree(Path(load_kernels().__path__[0]), copy)
    monkeypatch.setattr(tuned, "load_kernels", lambda: SimpleNamespace(__path__=[str(copy)]))
    assert version() == ours
    with (copy / "adamw.py").open("a") as file:
        file.write("\n")
    assert version() != ours


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"batch_size": 16}, "batch [8], and this is [16]"),
        ({"model": dataclasses.replace(short_runs.MODEL, n_layers=1)}, "network.n_layers 2, and"),
        ({"optim": OptimConfig(name="adamw")}, "optimizer muon, and this is adamw"),
        ({"checkpoint_activations": True}, "checkpoint_activations false, and this is true"),
    ],
)
def test_a_named_file_of_another_work_is_told_and_left_out(change, told, tmp_path):
    """The user's cache folder has a file for each work: another one's is not looked at."""
    path = written(CONFIG, path=tmp_path / "mine.json")
    other = dataclasses.replace(CONFIG, **change)
    assert taken(other) == tuned.Taken(other)
    config, note, _ = taken(other, str(path))
    assert config == other
    assert told in note
    assert taken(CONFIG, str(path)).config.micro_batch == 4


def test_a_file_of_another_device_is_told(tmp_path, monkeypatch):
    path = written(CONFIG, path=tmp_path / "mine.json")
    monkeypatch.setattr(tuned, "identity", lambda device: {"type": "cpu", "name": "x", "cores": 9})
    config, note, _ = taken(CONFIG, str(path))
    assert config == CONFIG
    assert "measured with device.name" in note or "measured with device.cores" in note


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"\xff\xfe\x00", b"[" * 100_000, b"{}", b'{"format": 2}', b'{"format": 1}',
        b'{"format": 1, "work": 1, "versions": 2, "how": 3, "measured": 4, "choices": 5}',
    ],
)  # fmt: skip
def test_a_damaged_file_is_told_and_left_out(content):
    path = written(CONFIG)
    path.write_bytes(content)
    config, note, used = taken(CONFIG)
    assert (config, used) == (CONFIG, "")
    assert str(path) in note
    assert note.endswith(": its choices are left out")
    assert note.count("\n") == 0


@pytest.mark.parametrize(
    "choices",
    [
        {"micro_batch": 3}, {"micro_batch": 0}, {"micro_batch": 10**30}, {"micro_batch": "8"},
        {"micro_batch": True}, {"threads": 10**9}, {"threads": 0}, {"triton_ops": 7},
        {"triton_ops": "quick"}, {"attention": "fastest"}, {"attention": "cudnn"},
        {"seed": 3}, {"compile_scope": ["block"]},
    ],
)  # fmt: skip
def test_choices_that_cannot_be_are_told_and_left_out(choices):
    path = written(CONFIG)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"choices": choices}))
    config, note, used = taken(CONFIG)
    assert (config, used) == (CONFIG, "")
    assert note.endswith(": its choices are left out")


@pytest.mark.parametrize("foreign", [{"x": {}}, {"network.d_model": 64}, {"x": None}])
def test_conditions_with_something_foreign_are_left_out(foreign, tmp_path):
    path = written(CONFIG, path=tmp_path / "mine.json")
    values = json.loads(path.read_text())
    values["work"] |= foreign
    path.write_text(json.dumps(values))
    config, note, used = taken(CONFIG, str(path))
    assert (config, used) == (CONFIG, "")
    assert "was measured with" in note


def test_a_folder_in_the_place_of_the_file_is_told():
    path = written(CONFIG)
    path.unlink()
    path.mkdir()
    assert taken(CONFIG).config == CONFIG
    assert str(path) in taken(CONFIG).note


def test_a_micro_batch_that_does_not_fit_the_free_memory_is_left_to_the_plan(monkeypatch):
    written(CONFIG, Choices(micro_batch=4, threads=1))
    for n_windows, micro_batch in ((2, "auto"), (4, 4)):
        config = dataclasses.replace(CONFIG, micro_batch=n_windows)
        needed = tuned.plan_memory(config, torch.device("cpu"), bf16=False).needed
        monkeypatch.setattr(micro_batch_module, "usable_memory", lambda *_, n=needed: n)
        assert taken(CONFIG).config == dataclasses.replace(
            CONFIG, micro_batch=micro_batch, threads=1
        )


@pytest.mark.parametrize("home", ["", "relative/cache"])
def test_without_a_cache_folder_of_its_own_it_is_that_of_the_home_folder(
    home, monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = default_file(conditions(CONFIG))
    assert path is not None
    assert path.parent == tmp_path / ".cache" / "fastlm" / "tuned"


def test_a_folder_of_its_own_for_the_files(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTLM_TUNED_DIR", str(tmp_path / "mine"))
    assert written(CONFIG).parent == tmp_path / "mine"
    assert taken(CONFIG).config.micro_batch == 4


def test_files_of_the_user_are_not_used_by_tests(tuned_folder, monkeypatch):
    """The fixture of this file removes the variable that all other tests have."""
    monkeypatch.undo()
    path = default_file(conditions(CONFIG))
    assert path is not None
    assert path.parent == tuned_folder


def test_a_result_without_changes_says_nothing():
    written(CONFIG, Choices())
    assert taken(CONFIG) == tuned.Taken(CONFIG)


def test_a_run_takes_it_over_records_it_and_goes_on_with_it(data, tmp_path, capfd):
    """The same flags resume with what the run began with, whatever is measured meanwhile."""
    words = [*TINY, "--data", str(data), "--out", str(tmp_path / "run"), "--no-compile"]
    n_threads = torch.get_num_threads()
    main([*words, "--max-steps", "1", "--tuned", "none"])
    plain = RunRecord(tmp_path / "run").config()
    assert (plain.micro_batch, plain.threads) == ("auto", "auto")
    path = written(plain, Choices(micro_batch=2, threads=1))
    # The run that began without it goes on without it.
    main([*words, "--max-steps", "2", "--resume", "auto"])
    assert "fastlm.tune" not in capfd.readouterr().err
    assert RunRecord(tmp_path / "run").config().micro_batch == "auto"

    words[words.index(str(tmp_path / "run"))] = str(tmp_path / "other")
    main([*words, "--max-steps", "1"])
    told = capfd.readouterr().err
    assert told.count("fastlm.tune") == 1
    assert "note: --micro-batch 2 --threads 1, as fastlm.tune measured here" in told
    assert "micro-batches of 2" in told
    record = RunRecord(tmp_path / "other")
    assert (record.config().micro_batch, record.config().threads) == (2, 1)
    environment = json.loads(record.files.environment.read_text())
    assert (environment["threads"], environment["tuned"]) == (1, str(path))
    assert torch.get_num_threads() == n_threads
    written(plain, Choices(micro_batch=1))
    main([*words, "--max-steps", "2", "--resume", "auto"])
    assert "fastlm.tune" not in capfd.readouterr().err
    assert (record.config().micro_batch, record.config().threads) == (2, 1)


def test_a_resumed_run_takes_another_file_or_none_if_it_is_asked_to(data, tmp_path, capfd):
    """How a run is computed may change on the way; what flags gave stays."""
    run = tmp_path / "run"
    words = [*TINY, "--data", str(data), "--out", str(run), "--no-compile", "--resume", "auto"]
    words += ["--batch-size", "8", "--optimizer-dtype", "float32"]
    record, steps = RunRecord(run), iter(range(1, 9))

    def go_on(*more: str) -> tuple[object, object, object]:
        main([*words, *more, "--max-steps", str(next(steps))])
        config = record.config()
        return config.micro_batch, config.threads, config.optimizer_dtype

    assert go_on("--tuned", "none") == ("auto", "auto", "float32")
    plain = record.config()
    first = str(written(plain, Choices(micro_batch=2, threads=1), tmp_path / "first.json"))
    second = str(written(plain, Choices(micro_batch=4), tmp_path / "second.json"))
    assert go_on("--tuned", first) == (2, 1, "float32")
    assert "note: --micro-batch 2 --threads 1, as fastlm.tune" in capfd.readouterr().err
    assert go_on() == (2, 1, "float32")
    assert go_on("--tuned", second) == (4, "auto", "float32")
    assert go_on("--tuned", "none", "--threads", "2") == ("auto", 2, "float32")
    assert go_on("--tuned", "none") == ("auto", 2, "float32")


def test_only_what_a_file_gave_is_taken_back(data, tmp_path):
    run = tmp_path / "run"
    words = [*TINY, "--data", str(data), "--out", str(run), "--no-compile", "--batch-size", "8"]
    main([*words, "--micro-batch", "2", "--max-steps", "1"])
    plain = dataclasses.replace(RunRecord(run).config(), micro_batch="auto")
    file = str(written(plain, Choices(threads=1, micro_batch=4), tmp_path / "mine.json"))
    shutil.rmtree(run)
    main([*words, "--micro-batch", "2", "--tuned", file, "--max-steps", "1"])
    environment = json.loads((run / "environment.json").read_text())
    assert environment["tuned_settings"] == {"threads": 1}
    environment["tuned_settings"] |= {"seed": plain.seed, "foreign": 1}  # by another hand
    (run / "environment.json").write_text(json.dumps(environment))
    main(["--resume", str(run), "--tuned", "none", "--max-steps", "2"])
    config = RunRecord(run).config()
    assert (config.micro_batch, config.threads) == (2, "auto")


class Second(Ranks):
    """The second of two processes, which gets what the first one sends."""

    def __init__(self, sent: tuned.Taken) -> None:
        super().__init__(rank=1, size=2)
        self.sent = sent

    def of_first(self, value):
        assert value.path == "", "it looks for no file of its own"
        return self.sent


def test_all_processes_take_what_the_first_one_took(data):
    config = dataclasses.replace(CONFIG, data=DataConfig(path=str(data)))
    setup = set_up(config)
    written(config, Choices(micro_batch=1))  # the second one's machine has another file
    sent = tuned.Taken(dataclasses.replace(config, optimizer_dtype="bfloat16"), "as measured", "f")
    both = [command._with_tuned(config, setup, "auto", Second(sent)) for _ in range(2)]
    for found, with_tuned in both:
        assert found == sent.config
        assert (with_tuned.notices[-1], with_tuned.tuned) == ("as measured", "f")
    nothing = command._with_tuned(config, setup, "auto", Second(tuned.Taken(config)))
    assert nothing == (config, setup)


def test_a_resumed_run_on_more_processes_than_its_micro_batches_is_told_what_to_do():
    config = dataclasses.replace(CONFIG, micro_batch=4)
    with pytest.raises(ValueError, match="a multiple of 16, or --micro-batch auto"):
        tuned.plan_memory(config, torch.device("cpu"), bf16=False, n_ranks=4)


def test_a_named_file_that_is_not_there_is_refused(data, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.json does not exist: --tuned names a file"):
        main([*TINY, "--data", str(data), "--tuned", str(tmp_path / "no.json")])
