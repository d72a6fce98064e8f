"""Layers of the package, the use of NNX, and the mirror of the package in the tests."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "tests" / "unit"


def test_imports_follow_the_layers():
    script = "from importlinter.cli import lint_imports_command as c; c()"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_nnx_is_used_for_layers_and_trees_only():
    forbidden = re.compile(r"nnx\.(jit|grad|value_and_grad|scan|vmap|remat|Optimizer|cached_partial)\b")
    for path in (ROOT / "jaxdet").rglob("*.py"):
        assert not forbidden.search(path.read_text()), path


# What removes or renames, and what runs code that a file holds. A name of a module here stands for the
# attribute.
_REMOVES = {
    "shutil": {"rmtree", "move"},
    "os": {"remove", "unlink", "rmdir", "removedirs", "rename", "renames", "replace"},
}
_RUNS = {"pickle": {"load", "loads", "Unpickler"}, "marshal": {"load", "loads"}, "shelve": {"open"}}
_METHODS = {"unlink", "rmdir", "rename", "rmtree"}  # of a path
_BUILTINS = {"eval", "exec"}
# Where each of them may stand.
_ALLOWED = {
    "jaxdet/files.py": {"os.replace", ".unlink"},
    "jaxdet/distributed/tunnel.py": {
        "os.rmdir",
        ".rmdir",
        ".unlink",
    },  # its socket and the empty folder around it
    "jaxdet/folders.py": {"shutil.rmtree", "os.rename", ".unlink", ".rmdir"},
}


def _dangers(source):
    """What of the above a source text names, under whatever name it was imported, called or not."""
    table = _REMOVES | _RUNS
    tree = ast.parse(source)
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {(a.asname or a.name).split(".")[0]: a.name for a in node.names if a.name in table}
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=module, names=names) if module in table:
                yield from (f"{module}.{a.name}" for a in names if a.name in table[module] or a.name == "*")
            case ast.Attribute(value=ast.Name(id=name), attr=attr) if name in modules:
                if attr in table[modules[name]]:
                    yield f"{modules[name]}.{attr}"
            case ast.Attribute(attr=attr) if attr in _METHODS:
                yield f".{attr}"
            case ast.Name(id=name) if name in _BUILTINS:
                yield name
            case ast.keyword(arg="allow_pickle", value=value):
                if not (isinstance(value, ast.Constant) and value.value is False):
                    yield "allow_pickle"


def test_removal_and_foreign_code_have_one_guarded_place():
    for path in sorted((ROOT / "jaxdet").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        assert set(_dangers(path.read_text())) <= _ALLOWED.get(name, set()), name


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import shutil as s\ns.rmtree(p)", "shutil.rmtree"),
        ("from shutil import rmtree as gone", "shutil.rmtree"),
        ("import os\nmap(os.remove, paths)", "os.remove"),
        ("p.parent.unlink(missing_ok=True)", ".unlink"),
        ("import pickle\npickle.loads(b)", "pickle.loads"),
        ("from pickle import load", "pickle.load"),
        ("def f():\n    import pickle\n    class U(pickle.Unpickler): pass", "pickle.Unpickler"),
        ("import numpy as np\nnp.load(p, allow_pickle=True)", "allow_pickle"),
        ("np.load(p, allow_pickle=flag)", "allow_pickle"),
        ("eval(text)", "eval"),
        ("run = exec", "exec"),
    ],
)
def test_the_walk_finds_what_it_looks_for(source, found):
    assert list(_dangers(source)) == [found]


def test_the_walk_passes_harmless_code():
    text = "import os\nmodel.eval()\n'eval(x)'.replace('a', 'b')\nnames.remove(1)\nnp.load(p)"
    assert not list(_dangers(text))


def _modules() -> dict[str, Path]:
    """Path of every module of the package by its dotted name; a package goes by its own name."""
    paths = (ROOT / "jaxdet").rglob("*.py")
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}


def _imported(path: Path, modules: dict[str, Path]) -> set[str]:
    """Modules of the package that a file names in its import statements."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names & set(modules)


def _is_command(module: str, path: Path) -> bool:
    return module.count(".") == 1 and '__name__ == "__main__"' in path.read_text()


def _tested_file(test: Path) -> str:
    """Dotted name of the module whose place in the package is that of a unit test."""
    tested = test.with_name(test.name.removeprefix("test_")).relative_to(UNIT).with_suffix("")
    return ".".join(("jaxdet", *tested.parts))


def test_unit_tests_lie_where_the_file_lies_that_they_test():
    modules = set(_modules())
    for test in UNIT.rglob("test_*.py"):
        assert _tested_file(test) in modules, test


def _reached(found: set[str], modules: dict[str, Path]) -> set[str]:
    """Modules that a tested command is made of, and parts of a tested file that lie in its folder."""
    more = set()
    for module in found & set(modules):
        imported = _imported(modules[module], modules)
        beside = {m for m in imported if modules[m].parent == modules[module].parent}
        more |= imported if _is_command(module, modules[module]) else beside
    return more


def test_every_module_is_tested():
    """By its unit test, by a test that imports it, or through a tested command or file that is made of it."""
    modules = _modules()
    tested = {_tested_file(test) for test in UNIT.rglob("test_*.py")}
    for test in (ROOT / "tests").rglob("*.py"):
        tested |= _imported(test, modules)
    while more := _reached(tested, modules) - tested:
        tested |= more
    assert sorted(set(modules) - tested) == []


def test_architecture_lists_the_layers_of_the_import_contract():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rows = [re.findall(r"\((\w+)\)", row) for row in contracts[0]["layers"]]
    text = (ROOT / "ARCHITECTURE.md").read_text()
    listed = text.split("<!-- layers -->")[1].split("<!-- /layers -->")[0]
    assert [line.strip("│ ").split() for line in listed.splitlines() if line.startswith("│")] == rows


def test_the_main_path_of_training_is_short():
    """ARCHITECTURE.md promises a newcomer fewer than 500 lines from the command to the detector."""
    path = ("train.py", "training/step.py", "models/detector.py")
    assert sum(len((ROOT / "jaxdet" / name).read_text().splitlines()) for name in path) < 500
