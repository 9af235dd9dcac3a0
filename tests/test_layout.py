"""The rooms of fastlm: imports go down its floors, every command has one door, faces show names."""

import ast
import functools
import graphlib
from importlib import import_module
from pathlib import Path

import pytest

from fastlm.cli.commands import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
FASTLM, KERNELS = ROOT / "fastlm", ROOT / "kernels"

# From the bottom: a room may import from rooms on lower floors alone.
FLOORS = [
    ("",),
    ("lazy", "files", "devices", "functional", "schedule"),
    ("ops", "cli"),
    ("corpus", "config"),
    ("tokenizer", "model", "optim", "runs", "checkpoint"),
    ("data", "accounting", "report", "pretrained", "record", "sgd_toy"),
    ("evaluate", "generate", "export", "records", "doctor"),
    ("train", "imports"),
    ("sweep",),
    ("__main__",),
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(FASTLM.rglob("*.py"))
PACKAGES = sorted(path.parent for path in FASTLM.glob("*/__init__.py"))


def name_of(path: Path) -> str:
    """`fastlm.train.loop`, or `fastlm.train` for its __init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """`train` for fastlm.train.loop; empty for fastlm itself."""
    return module.split(".")[1] if "." in module else ""


MODULES = {name_of(path) for path in FILES}


@functools.cache
def imported_modules(path: Path) -> set[str]:
    """Dotted names that a file imports, at its top or inside its functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or path.parent == KERNELS, f"{path.name}: relative import"
            module = ".".join(filter(None, ["kernels" if node.level else "", node.module]))
            names.add(module)
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def fastlm_imports(path: Path) -> set[str]:
    """Modules of fastlm that a file imports; the package itself, which defines no more than its version, is left out."""
    return (imported_modules(path) & MODULES) - {"fastlm"}


@functools.cache
def edges() -> dict[str, set[str]]:
    """Room -> other rooms that its files import."""
    graph: dict[str, set[str]] = {room: set() for room in FLOOR_OF}
    for path in FILES:
        room = room_of(name_of(path))
        graph.setdefault(room, set()).update(map(room_of, fastlm_imports(path)))
    return {room: others - {room} for room, others in graph.items()}


def test_every_room_has_a_floor_and_every_floor_its_rooms():
    rooms = {room_of(name_of(path)) for path in FILES}
    assert rooms == set(FLOOR_OF)


@pytest.mark.parametrize("room", FLOOR_OF)
def test_imports_go_down_the_floors(room):
    wrong = [other for other in edges()[room] if FLOOR_OF[other] >= FLOOR_OF[room]]
    assert not wrong, f"{room} (floor {FLOOR_OF[room]}) imports {wrong}: move what it needs down"


def test_no_circle_between_rooms():
    list(graphlib.TopologicalSorter(edges()).static_order())  # raises CycleError


def test_no_circle_between_files():
    """Only imports at the top of a file count: one inside a function may close a circle."""
    graph = {}
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        tops = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        names: set[str] = set()
        for node in tops:
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            else:
                dotted = {f"{node.module}.{alias.name}" for alias in node.names}
                # A name that the package itself defines is of its __init__.py.
                names |= {d if d in MODULES else str(node.module) for d in dotted}
        graph[name_of(path)] = (names & MODULES) - {name_of(path)}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_kernels_never_import_fastlm_and_only_ops_imports_kernels():
    for path in KERNELS.glob("*.py"):
        assert not any(name.split(".")[0] == "fastlm" for name in imported_modules(path)), path
    for path in FILES:
        if room_of(name_of(path)) != "ops":
            assert not any(n.split(".")[0] == "kernels" for n in imported_modules(path)), path


def test_kernels_find_each_other_wherever_they_lie():
    """A wheel has them under another name."""
    for path in KERNELS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = getattr(node, "module", None) or ""
            assert not (isinstance(node, ast.ImportFrom) and named.startswith("kernels")), path.name


# A short path of the same thing, and the class that its package is about.
SAME = {"record": ["fastlm.record", "fastlm.runs.record"], "tokenizer": ["fastlm.tokenizer", "fastlm.tokenizer.tokenizer"]}  # fmt: skip


def test_no_two_modules_of_one_name_mean_different_things():
    named: dict[str, list[str]] = {}
    for module in sorted(MODULES - {"fastlm"}):
        named.setdefault(module.rpartition(".")[2], []).append(module)
    twice = {name: modules for name, modules in named.items() if len(modules) > 1}
    del twice["__main__"]
    assert twice == SAME


def is_main_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def test_every_command_has_a_door():
    """`python -m fastlm.X` is X/__main__.py or X.py, and no other file can be run."""
    doors = {FASTLM / "__main__.py"}
    for command in COMMANDS.values():
        place = FASTLM / command.module.replace(".", "/")
        doors.add(place / "__main__.py" if place.is_dir() else place.with_suffix(".py"))
    guarded = {
        path
        for path in FILES
        if any(map(is_main_guard, ast.walk(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert guarded == doors


def test_a_guard_starts_the_command_of_its_own_file_and_imports_nothing():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if is_main_guard(node):
                inside = [n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
                assert not inside, path


def lazy_packages() -> list[Path]:
    return [p for p in PACKAGES if "lazy_names(" in (p / "__init__.py").read_text(encoding="utf-8")]


def lazy_names_of(package: Path) -> set[str]:
    """Names that a package repeats under TYPE_CHECKING."""
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {alias.asname for node in imports for alias in node.names if alias.asname}


@pytest.mark.parametrize("package", lazy_packages(), ids=lambda package: package.name)
def test_a_lazy_face_shows_what_it_says(package):
    face = import_module(f"fastlm.{package.name}")
    assert lazy_names_of(package)
    for name in lazy_names_of(package):
        assert getattr(face, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = face.no_such_name


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_no_module_takes_the_place_of_a_name_of_its_package(package):
    """Once imported, a submodule is an attribute of its package."""
    face = import_module(f"fastlm.{package.name}")
    shown = lazy_names_of(package) | {
        name
        for name, value in vars(face).items()
        if getattr(value, "__module__", None) == face.__name__
    }
    inside = {path.stem for path in package.iterdir()}
    assert not shown & inside


def test_nothing_that_runs_code_from_a_file_is_called():
    """Weights of others are safetensors, all else is JSON: see docs/trouble.md."""
    for path in FILES:
        assert not imported_modules(path) & {"pickle", "marshal", "shelve", "dill", "yaml"}, path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called not in ("eval", "exec", "compile", "torch.load", "joblib.load"), path
            if called in ("np.load", "numpy.load"):
                assert "allow_pickle=False" in ast.unparse(node), path


def test_names_say_whether_tokens_or_parameters_are_sharded():
    """shard_tokens is of files; what FSDP shards has fsdp in its name, but for PyTorch's reshard."""
    for path in FILES:
        if room_of(name_of(path)) in ("data", "files", "imports") or path.stem == "fsdp":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = {
                getattr(node, field, None) for field in ("id", "attr", "arg", "name", "module")
            }
            shards = {name for name in names if isinstance(name, str) and "shard" in name.lower()}
            assert shards <= {"reshard"}, f"{path}: {shards}"


def test_progress_is_told_by_one_callback():
    """Its name is on_progress and its type is that of fastlm.cli.progress, wherever it is taken."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.arg) and node.annotation is not None:
                told = ast.unparse(node.annotation)
                is_progress = told in ("Progress", "Progress | None")
                assert is_progress == (node.arg == "on_progress"), f"{path}: {node.arg}: {told}"


def test_no_literal_is_unpacked():
    """f(*(a, b)) is f(a, b): a type checker sees which argument is which."""

    def is_literal(node: ast.AST) -> bool:
        if isinstance(node, ast.IfExp):
            return is_literal(node.body) or is_literal(node.orelse)
        return isinstance(node, ast.Tuple | ast.List | ast.Dict)

    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            unpacked: list[ast.AST] = []
            if isinstance(node, ast.Starred) or (isinstance(node, ast.keyword) and not node.arg):
                unpacked = [node.value]
            elif isinstance(node, ast.Dict):
                unpacked = [
                    value for key, value in zip(node.keys, node.values, strict=True) if key is None
                ]
            assert not any(map(is_literal, unpacked)), f"{path}: {ast.unparse(node)}"


LIGHT = ("lazy", "files", "cli", "config", "corpus", "tokenizer", "report", "schedule")


@pytest.mark.parametrize("room", LIGHT)
def test_light_rooms_import_no_torch(room):
    for path in FILES:
        if room_of(name_of(path)) == room:
            roots = {name.split(".")[0] for name in imported_modules(path)}
            assert "torch" not in roots, path


def test_tests_share_code_by_support_alone():
    """A file of tests that another one imports cannot be moved, and drags its own imports along."""
    for path in (ROOT / "tests").rglob("*.py"):
        wrong = {n for n in imported_modules(path) if n.split(".")[0] in ("tests", "conftest")}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}: move it to tests/support"
