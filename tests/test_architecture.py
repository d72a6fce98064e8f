import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_imports_follow_the_layers():
    script = "from importlinter.cli import lint_imports_command as c; c()"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_nnx_is_used_for_layers_and_trees_only():
    forbidden = re.compile(r"nnx\.(jit|grad|value_and_grad|scan|vmap|remat|Optimizer|cached_partial)\b")
    for path in (ROOT / "jaxdet").rglob("*.py"):
        assert not forbidden.search(path.read_text()), path
