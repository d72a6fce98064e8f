import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_imports_follow_the_layers():
    script = "from importlinter.cli import lint_imports_command as c; c()"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_nnx_is_used_for_layers_and_trees_only():
    forbidden = re.compile(r"nnx\.(jit|grad|value_and_grad|scan|vmap|remat|Optimizer|cached_partial)\b")
    for path in (ROOT / "jaxdet").rglob("*.py"):
        assert not forbidden.search(path.read_text()), path


# What removes or renames, and what runs code that a file holds. A name of a module here stands for the attribute.
_REMOVES = {
    "shutil": {"rmtree", "move"},
    "os": {"remove", "unlink", "rmdir", "removedirs", "rename", "renames", "replace"},
}
_RUNS = {"pickle": {"load", "loads", "Unpickler"}, "marshal": {"load", "loads"}, "shelve": {"open"}}
_METHODS = {"unlink", "rmdir", "rename", "rmtree"}  # of a path
_BUILTINS = {"eval", "exec"}
# Where each of them may stand: one place that checks what it removes, and the restricted unpicklers.
_ALLOWED = {
    "jaxdet/files.py": {"os.replace", ".unlink"},
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
    text = "import os\nmodel.eval()\n'eval(x)'.replace('a', 'b')\nnames.remove(1)\nnp.load(p, allow_pickle=False)"
    assert not list(_dangers(text))
