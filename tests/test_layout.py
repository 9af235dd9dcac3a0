"""The rooms of fastlm: imports go down its floors, every command has one door, faces show names."""

import ast
import functools
import graphlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from fastlm.cli.commands import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
FASTLM, KERNELS = ROOT / "fastlm", ROOT / "kernels"

# From the bottom: a room may import from rooms on lower floors alone.
FLOORS = [
    ("",),
    ("lazy",),
    ("files", "devices", "functional", "schedule"),
    ("cli",),
    ("ops",),
    ("corpus", "config"),
    ("tokenizer", "model", "optim", "runs", "checkpoint"),
    ("data", "accounting", "report", "pretrained", "record", "sgd_toy"),
    ("evaluate", "generate", "export", "records", "doctor"),
    ("train", "imports"),
    ("sweep", "tune"),
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


FILE_OF = {name_of(path): path for path in FILES}
MODULES = set(FILE_OF)


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imported_modules(path: Path) -> set[str]:
    """Dotted names that a file imports, at its top or inside its functions."""
    names = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or path.parent == KERNELS, f"{path.name}: relative import"
            module = ".".join(filter(None, ["kernels" if node.level else "", node.module]))
            names.add(module)
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def run_on_import(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run on import: no body of a function, nothing for types alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield child
        if is_for_types(child):
            for other in child.orelse:
                yield from (other, *run_on_import(other))
        else:
            yield from run_on_import(child)


@functools.cache
def lazy_map(path: Path) -> dict[str, str]:
    """Name -> module that defines it, as given to lazy_names(__name__, ...); empty without."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_names":
            package, names = node.args
            assert ast.unparse(package) == "__name__", path
            values = ast.literal_eval(names)
            return {name: f"{name_of(path)}.{module}" for name, module in values.items()}
    return {}


@functools.cache
def imported_at_once(path: Path) -> set[str]:
    """Dotted names of modules that importing a file imports itself; a lazy name is of its module."""
    names = set()
    for node in run_on_import(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = str(node.module)
            lazy = lazy_map(FILE_OF[module]) if module in MODULES else {}
            for alias in node.names:
                dotted = f"{module}.{alias.name}"
                # A name that is no module of fastlm is of the one that defines it.
                is_defined_there = module in MODULES and dotted not in MODULES
                names.add(lazy.get(alias.name, module if is_defined_there else dotted))
    return names


@functools.cache
def reached_from(module: str) -> frozenset[str]:
    """All dotted names that importing a module of fastlm imports, by way of other modules too."""
    reached: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += [name.rpartition(".")[0]] if name.rpartition(".")[0] in MODULES else []
            todo += imported_at_once(FILE_OF[name]) if name in MODULES else []
    return frozenset(reached)


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


def test_no_circle_between_files():
    """Only what runs on import counts: an import inside a function may close a circle."""
    graph = {}
    for path in FILES:
        graph[name_of(path)] = (imported_at_once(path) & MODULES) - {name_of(path)}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_kernels_never_import_fastlm_and_only_ops_imports_kernels():
    for path in KERNELS.glob("*.py"):
        assert not any(name.split(".")[0] == "fastlm" for name in imported_modules(path)), path
    for path in FILES:
        if room_of(name_of(path)) != "ops":
            found = {n for n in imported_modules(path) if f"{n}.".startswith(INSTALLED_KERNELS)}
            assert not found, path


INSTALLED_KERNELS = ("kernels.", "fastlm.kernels.")


def test_kernels_find_each_other_wherever_they_lie():
    """A wheel has them under another name: they import each other relatively."""
    for path in KERNELS.glob("*.py"):
        for node in ast.walk(tree_of(path)):
            named = []
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                named = [str(node.module)]
            assert not any(f"{name}.".startswith(INSTALLED_KERNELS) for name in named), path.name


def test_kernels_of_the_tokenizer_import_only_each_other():
    """And the type of the callback that some take, what makes and opens files, and modules imported late."""
    home = "fastlm.tokenizer.bpe"
    for path in (FASTLM / "tokenizer/bpe").glob("*.py"):
        wrong = {n for n in fastlm_imports(path) if not f"{n}.".startswith(f"{home}.")}
        assert wrong <= {
            "fastlm.cli.progress",
            "fastlm.files.disk",
            "fastlm.files.folders",
            "fastlm.files.paths",
            "fastlm.lazy",
        }, f"{path.name} imports {wrong}"


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
        if path.stem == "__main__" or any(map(is_main_guard, ast.walk(tree_of(path))))
    }
    assert guarded == doors
    for path in doors:
        assert any(map(is_main_guard, tree_of(path).body)), path


def test_a_guard_starts_the_command_of_its_own_file_and_imports_nothing():
    """It is the file's `main`, defined there or imported, and of a function it takes constants alone."""
    for path in FILES:
        started: list[ast.AST] = []
        for node in ast.walk(tree_of(path)):
            if is_main_guard(node):
                inside = [n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
                assert not inside, path
                calls = [n for n in ast.walk(node) if isinstance(n, ast.Call)]
                runs = [call for call in calls if ast.unparse(call.func) == "cli.run"]
                started += [call.args[0] for call in runs]
                if not runs:
                    started += [c.func for c in calls if isinstance(c.func, ast.Name)]
        names = {n.id for part in started for n in ast.walk(part) if isinstance(n, ast.Name)}
        assert {name for name in names if not name.isupper()} <= {"main"}, path
        assert not started or "main" in names, path


def lazy_packages() -> list[Path]:
    return [p for p in PACKAGES if "lazy_names(" in (p / "__init__.py").read_text(encoding="utf-8")]


def repeated_names(package: Path) -> dict[str, str]:
    """Name -> module that defines it, as a package repeats them under TYPE_CHECKING."""
    blocks = filter(is_for_types, tree_of(package / "__init__.py").body)
    return {
        alias.asname or alias.name: str(node.module)
        for block in blocks
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("package", lazy_packages(), ids=lambda package: package.name)
def test_a_lazy_face_shows_what_it_says(package):
    face = import_module(f"fastlm.{package.name}")
    shown = lazy_map(package / "__init__.py")
    assert shown
    assert shown == repeated_names(package)
    for name in shown:
        assert getattr(face, name) is not None
    starred: dict[str, object] = {}
    exec(f"from fastlm.{package.name} import *", starred)
    assert shown.keys() <= starred.keys()
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = face.no_such_name


def bound_names(package: Path) -> set[str]:
    """Names that importing a package gives it: what it defines, what it imports, its lazy names."""
    names = set(lazy_map(package / "__init__.py"))
    for node in run_on_import(tree_of(package / "__init__.py")):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.ImportFrom) and node.module != f"fastlm.{package.name}":
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
    defined = (n for n in tree_of(package / "__init__.py").body if hasattr(n, "name"))
    return names | {node.name for node in defined}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_no_module_takes_the_place_of_a_name_of_its_package(package):
    """Once imported, a submodule is an attribute of its package."""
    inside = {path.stem for path in package.iterdir()}
    assert not bound_names(package) & inside


RUNS_CODE = {"torch.load", "joblib.load", "runpy.run_path"}
MAY_RUN_CODE = {"pickle", "marshal", "shelve", "dill", "yaml"}


def dotted_names(path: Path) -> dict[ast.AST, str]:
    """Every name and attribute in a file, and what it is where imported names are written out."""
    meant = {}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            meant |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            meant |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
    found = {}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Name | ast.Attribute):
            first, dot, rest = ast.unparse(node).partition(".")
            found[node] = meant.get(first, first) + dot + rest
    return found


def test_nothing_that_runs_code_from_a_file_is_called():
    """Weights of others are safetensors, all else is JSON: see docs/trouble.md."""
    for path in FILES:
        imported = imported_modules(path)
        assert not {name.split(".")[0] for name in imported} & MAY_RUN_CODE, path
        named = dotted_names(path)
        assert not (imported | set(named.values())) & RUNS_CODE, path
        for node in ast.walk(tree_of(path)):
            called = named.get(node.func, "") if isinstance(node, ast.Call) else ""
            assert called not in ("eval", "exec", "compile"), path
            if called == "numpy.load":
                assert "allow_pickle=False" in ast.unparse(node), path


def test_names_say_whether_tokens_or_parameters_are_sharded():
    """shard_tokens is of files; what FSDP shards has fsdp in its name, but for PyTorch's reshard."""
    for path in FILES:
        if room_of(name_of(path)) in ("data", "files", "imports") or path.stem == "fsdp":
            continue
        for node in ast.walk(tree_of(path)):
            names = {
                getattr(node, field, None) for field in ("id", "attr", "arg", "name", "module")
            }
            shards = {name for name in names if isinstance(name, str) and "shard" in name.lower()}
            assert shards <= {"reshard"}, f"{path}: {shards}"


def test_progress_is_told_by_one_callback():
    """Its name is on_progress and its type is that of fastlm.cli.progress, wherever it is taken."""
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.arg) and node.annotation is not None:
                told = ast.unparse(node.annotation)
                is_progress = told in ("Progress", "Progress | None")
                assert is_progress == (node.arg == "on_progress"), f"{path}: {node.arg}: {told}"
            elif isinstance(node, ast.Subscript) and path != FASTLM / "cli/progress.py":
                told = ast.unparse(node)
                assert not told.startswith("Callable[[str, int]"), f"{path}: {told} is Progress"


def test_no_literal_is_unpacked():
    """f(*(a, b)) is f(a, b): a type checker sees which argument is which."""

    def is_literal(node: ast.AST) -> bool:
        if isinstance(node, ast.IfExp):
            return is_literal(node.body) or is_literal(node.orelse)
        return isinstance(node, ast.Tuple | ast.List | ast.Dict)

    for path in FILES:
        for node in ast.walk(tree_of(path)):
            unpacked: list[ast.AST] = []
            if isinstance(node, ast.Starred) or (isinstance(node, ast.keyword) and not node.arg):
                unpacked = [node.value]
            elif isinstance(node, ast.Dict):
                unpacked = [
                    value for key, value in zip(node.keys, node.values, strict=True) if key is None
                ]
            assert not any(map(is_literal, unpacked)), f"{path}: {ast.unparse(node)}"


LIGHT = ("lazy", "files", "cli", "config", "corpus", "tokenizer", "report", "schedule", "runs", "record", "records")  # fmt: skip


def is_torch(name: str) -> bool:
    return "torch" in name.split(".")


@pytest.mark.parametrize("room", LIGHT)
def test_light_rooms_import_no_torch(room):
    """Neither they themselves, nor what is imported with them."""
    for path in FILES:
        if room_of(name_of(path)) == room:
            names = imported_modules(path) | reached_from(name_of(path))
            assert not any(map(is_torch, names)), f"{path}: {sorted(filter(is_torch, names))}"


def test_tests_share_code_by_support_alone():
    """A file of tests that another one imports cannot be moved, and drags its own imports along."""
    for path in (ROOT / "tests").rglob("*.py"):
        wrong = {n for n in imported_modules(path) if n.split(".")[0] in ("tests", "conftest")}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}: move it to tests/support"
