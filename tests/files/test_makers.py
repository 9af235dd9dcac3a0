"""Outside of fastlm/files, no module makes, renames or removes files and folders."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


MAKES_FILES = {
    "os": {
        "replace",
        "rename",
        "renames",
        "link",
        "symlink",
        "mkdir",
        "makedirs",
        "remove",
        "unlink",
        "rmdir",
        "removedirs",
        "truncate",
    },
    "shutil": {"move", "rmtree", "copy", "copy2", "copyfile", "copytree", "copyfileobj"},
    "np": {"save", "savez", "savez_compressed", "savetxt"},
}
MAKES_FILES_OF_A_PATH = {
    "rename",
    "unlink",
    "write_text",
    "write_bytes",
    "touch",
    "mkdir",
    "rmdir",
    "hardlink_to",
    "symlink_to",
    "tofile",
}


def makes_a_file(call: ast.Call) -> bool:
    """Whether a call writes, renames or removes a file or a folder past files/disk."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
    if owner in MAKES_FILES and name in MAKES_FILES[owner]:
        return True
    if owner == "disk":
        return False
    if name in MAKES_FILES_OF_A_PATH:
        return True
    if name == "replace":  # Path's takes one argument, that of str two; dataclasses' takes names
        return len(call.args) == 1 and owner != "dataclasses" and not call.keywords
    if owner == "os" and name == "open":
        return any(flag in ast.unparse(call) for flag in ("O_WRONLY", "O_RDWR", "O_CREAT"))
    if name == "open":
        modes = [a.value for a in (*call.args, *(k.value for k in call.keywords))
                 if isinstance(a, ast.Constant) and isinstance(a.value, str)]  # fmt: skip
        return any(set(mode) & set("wax+") and set(mode) <= set("rwaxbt+") for mode in modes)
    return False


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("os.replace(a, b)", True),
        ("path.replace(new)", True),
        ("text.replace('a', 'b')", False),
        ("dataclasses.replace(config)", False),
        ("path.rename(new)", True),
        ("disk.rename(path, new)", False),
        ("path.write_text(text)", True),
        ("(a / b).write_bytes(raw)", True),
        ("open(path, 'wb')", True),
        ("open(path, mode='a')", True),
        ("path.open('r+b')", True),
        ("open(path)", False),
        ("open(path, 'rb')", False),
        ("gzip.open(path)", False),
        ("os.open(path, os.O_RDWR)", True),
        ("os.open(path, os.O_RDONLY)", False),
        ("shutil.rmtree(path)", True),
        ("shutil.which(name)", False),
        ("path.mkdir()", True),
        ("path.touch()", True),
        ("path.symlink_to(other)", True),
        ("os.remove(path)", True),
        ("np.save(path, tokens)", True),
        ("tokens.tofile(path)", True),
    ],
)
def test_calls_that_make_files_are_seen(code, expected):
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert makes_a_file(call) == expected


def test_no_other_file_of_fastlm_makes_files_itself():
    """tempfile may, whose files are nobody's: doctor and completion try things in them."""
    found = []
    for path in sorted((ROOT / "fastlm").rglob("*.py")):
        name = path.relative_to(ROOT / "fastlm").as_posix()
        if name.startswith("files/"):
            continue
        calls = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call))
        found += [f"{name}:{n.lineno} {ast.unparse(n)}" for n in calls if makes_a_file(n)]
    assert not found
