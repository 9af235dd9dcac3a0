"""Imports go downward only: each file of fastlm imports from lower levels, kernels from none."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LEVELS = [
    {
        "ablations", "chips", "cli", "clock", "config", "console", "disk", "durations", "packing", "sealed", "shards", "signals", "float8", "garbage", "projection", "functional", "schedule", "windows", "stories",
        "story_words", "story_phrases", "story_plots", "compression", "__init__",
        "text_files", "text_offsets", "special_tokens", "bpe_training", "meter", "token_files", "torchrun",
        "tokenizer_files", "tokenizer_tables", "token_shards", "parquet", "spool", "tiled_attention", "run_files", "thinning",
    },
    {
        "accounting", "averaging", "checkpoint", "commands", "corpus", "documents", "download", "loggers", "muon", "ops", "optim",
        "parallel", "parameter_groups", "record", "report_data", "row_optim", "splits", "stepper", "tokenizer",
        "tying", "watch",
    },
    {
        "completion", "data", "hardware", "hugging_face", "layers", "model", "ngrams", "pretrained", "saver",
        "records", "report", "self_attention", "sgd_toy", "tokenizer_measures",
    },
    {"budget", "compiling", "doctor", "evaluate", "export", "generate", "imports", "memory", "plot", "recipes", "report_server", "tokenizer_report"},
    {"accounting_cli", "assembling", "data_cli", "evaluate_cli", "export_cli", "generate_cli", "imports_cli", "report_cli", "tokenizer_cli", "__main__"},
    {"trainer"},
    {"fixed_steps", "loop", "nonfinite", "profiling"},
    {"train"},
    {"train_cli"},
    {"sweep_plan"},
    {"sweep_results"},
    {"sweep"},
]  # fmt: skip

# Within a level only these: one builds on the other, and nothing goes back.
SIDEWAYS = {
    ("stories", "story_plots"), ("stories", "story_words"), ("stories", "story_phrases"),
    ("story_plots", "story_words"), ("story_plots", "story_phrases"),
    ("story_phrases", "story_words"), ("pretrained", "model"), ("model", "layers"),
    ("model", "ngrams"), ("model", "self_attention"), ("ngrams", "layers"),
    ("self_attention", "layers"), ("corpus", "download"),
    ("corpus", "documents"), ("splits", "corpus"), ("splits", "documents"), ("windows", "token_shards"),
    ("special_tokens", "text_files"), ("bpe_training", "special_tokens"),
    ("bpe_training", "text_files"), ("meter", "console"), ("token_files", "text_files"),
    ("tokenizer_tables", "special_tokens"), ("tokenizer_files", "tokenizer_tables"),
    ("tokenizer_files", "text_files"), ("optim", "ops"), ("config", "durations"),
    ("optim", "muon"), ("optim", "stepper"), ("optim", "parameter_groups"),
    ("muon", "ops"), ("muon", "stepper"), ("stepper", "ops"), ("packing", "shards"),
    ("muon", "parallel"), ("optim", "parallel"), ("row_optim", "parallel"),
}  # fmt: skip

# Run by `python -m`, the left one starts the command of the right one.
STARTS = {
    ("accounting", "accounting_cli"),
    ("data", "data_cli"),
    ("evaluate", "evaluate_cli"),
    ("export", "export_cli"),
    ("generate", "generate_cli"),
    ("imports", "imports_cli"),
    ("report", "report_cli"),
    ("tokenizer", "tokenizer_cli"),
    ("train", "train_cli"),
}


def imported_modules(path: Path) -> set[str]:
    """Dotted names that a file imports, at its top or inside its functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or path.parent.name == "kernels", f"{path.name}: relative import"
            module = ".".join(filter(None, ["kernels" if node.level else "", node.module]))
            names.add(module)
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def fastlm_imports(path: Path) -> set[str]:
    parts = [name.split(".") for name in imported_modules(path)]
    return {p[1] for p in parts if p[0] == "fastlm" and len(p) > 1}


def level_of(name: str) -> int:
    return next(i for i, level in enumerate(LEVELS) if name in level)


FILES = sorted(p.stem for p in (ROOT / "fastlm").glob("*.py"))


@pytest.mark.parametrize("name", FILES)
def test_imports_come_from_lower_levels(name):
    assert any(name in level for level in LEVELS), f"{name}.py has no level: give it one here"
    for other in fastlm_imports(ROOT / "fastlm" / f"{name}.py") & set(FILES):
        allowed = level_of(other) < level_of(name) or (name, other) in SIDEWAYS | STARTS
        assert allowed, f"{name} (level {level_of(name)}) imports {other} (level {level_of(other)})"


def test_tokenizer_cores_import_only_each_other():
    for path in (ROOT / "fastlm" / "bpe").glob("*.py"):
        assert fastlm_imports(path) <= {"bpe"}, path.name


def test_kernels_never_import_fastlm_and_only_ops_imports_kernels():
    for path in (ROOT / "kernels").glob("*.py"):
        assert not fastlm_imports(path), path.name
    for path in (ROOT / "fastlm").rglob("*.py"):
        if path.stem != "ops":
            assert not any(n.split(".")[0] == "kernels" for n in imported_modules(path)), path.name


def test_kernels_find_each_other_wherever_they_lie():
    """A wheel has them under another name."""
    for path in (ROOT / "kernels").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = getattr(node, "module", None) or ""
            assert not (isinstance(node, ast.ImportFrom) and named.startswith("kernels")), path.name


def test_nothing_that_runs_code_from_a_file_is_called():
    """Weights of others are safetensors, all else is JSON: see docs/trouble.md."""
    for path in (ROOT / "fastlm").rglob("*.py"):
        assert not imported_modules(path) & {"pickle", "marshal", "shelve", "dill", "yaml"}, path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called not in ("eval", "exec", "compile", "torch.load", "joblib.load"), path
            if called in ("np.load", "numpy.load"):
                assert "allow_pickle=False" in ast.unparse(node), path


def test_light_files_import_no_torch():
    for name in (
        "cli",
        "clock",
        "config",
        "console",
        "schedule",
        "stories",
        "download",
        "corpus",
        "documents",
        "parquet",
        "splits",
        "spool",
        "token_shards",
        "meter",
        "report",
        "report_cli",
        "report_data",
        "report_server",
        "run_files",
        "text_files",
        "token_files",
        "tokenizer",
        "tokenizer_cli",
        "tokenizer_files",
        "tokenizer_measures",
        "tokenizer_report",
    ):
        roots = {n.split(".")[0] for n in imported_modules(ROOT / "fastlm" / f"{name}.py")}
        assert "torch" not in roots, name


@pytest.mark.parametrize("name", FILES)
def test_files_stay_small_enough_to_read(name):
    n_lines = len((ROOT / "fastlm" / f"{name}.py").read_text(encoding="utf-8").splitlines())
    assert n_lines <= 900 if name.startswith("story_") else n_lines <= 450
