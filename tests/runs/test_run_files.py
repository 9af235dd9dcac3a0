"""A run's files have their names in one place."""

import ast
import re
from pathlib import Path

from fastlm.corpus import text_files
from fastlm.runs.run_files import RunFiles, SweepFiles
from fastlm.tokenizer.folder import KEPT_AS

FASTLM = Path(__file__).resolve().parents[2] / "fastlm"
HOME = FASTLM / "runs/run_files.py"
# Folders that other programs read have a config.json too, or a tokenizer_config.json.
OTHERS = (FASTLM / "export", FASTLM / "imports", FASTLM / "tokenizer/folder.py")


def names_of(kind: type) -> set[str]:
    """The name that each property of RunFiles or SweepFiles gives."""
    files = kind(Path("folder"))
    properties = [n for n, value in vars(kind).items() if isinstance(value, property)]
    return {getattr(files, name).name for name in properties}


def literals(path: Path) -> set[str]:
    """Strings and parts of f-strings in a file's code; docstrings are for people."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    alone = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in alone
    }


def test_no_other_file_spells_the_name_of_a_file_of_a_run_or_a_sweep():
    names = {name for kind in (RunFiles, SweepFiles) for name in names_of(kind) if "." in name}
    names.add(RunFiles(Path()).nonfinite_step("").stem)
    assert {"config.json", "log.jsonl", "sweep.json", "not-finite-step-"} <= names
    # The corpus lies below the runs, whose folders it passes over.
    assert set().union(*text_files._RUN_MARKS) <= names
    for path in set(FASTLM.rglob("*.py")) - {HOME, FASTLM / "corpus/text_files.py"}:
        is_foreign = any(path.is_relative_to(room) for room in OTHERS)
        wanted = names - {"config.json"} if is_foreign else names
        texts = "\n".join(literals(path))
        # tokenizer_config.json is no config.json.
        found = {name for name in wanted if re.search(rf"(?<!\w){re.escape(name)}", texts)}
        assert not found, f"{path}: take {found} from fastlm.runs.run_files"


def part_of_a_path(node: ast.expr) -> str:
    """Its text if it is a string; of an f-string with {} for each value."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(part_of_a_path, node.values))
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return "{}"


def test_no_other_file_spells_the_name_of_a_folder_of_a_run():
    """Its names are words that mean other things too, but for where they are part of a path."""
    folders = {name for name in names_of(RunFiles) if "." not in name}
    assert folders == {"checkpoints", "tokenizer", "tensorboard"}
    assert RunFiles(Path("run")).tokenizer.name == KEPT_AS
    for path in set(FASTLM.rglob("*.py")) - {HOME}:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts: list[str] = []
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                parts = [part_of_a_path(node.right)]
            elif isinstance(node, ast.JoinedStr):
                parts = re.findall(r"\{\}/([\w.-]+)", part_of_a_path(node))
            assert folders.isdisjoint(parts), f"{path}: {ast.unparse(node)}"


def test_no_two_files_have_one_name():
    for kind in (RunFiles, SweepFiles):
        properties = [n for n, value in vars(kind).items() if isinstance(value, property)]
        assert len(names_of(kind)) == len(properties) > 5


def test_the_evidence_is_what_is_there_without_weights(tmp_path):
    files = RunFiles(tmp_path)
    assert files.evidence() == []
    for path in (files.config, files.log, files.output, files.nonfinite_step(7), files.failed):
        path.write_text("")
    files.checkpoints.mkdir()
    files.tokenizer.mkdir()
    assert files.evidence() == [files.config, files.log, files.failed, files.nonfinite_step(7)]
    sweep = SweepFiles(tmp_path)
    for path in (sweep.plan, sweep.flags, sweep.table):
        path.write_text("")
    assert sweep.evidence() == [sweep.plan, sweep.table]
