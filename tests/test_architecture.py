"""Layers of the package, the use of NNX, and the mirror of the package in the tests."""

import ast
import re
import subprocess
import sys
from pathlib import Path

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
