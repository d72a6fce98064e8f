"""Language and form of the sources that a linter does not look at."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
QUESTIONS = {"what", "which", "whether", "how", "where", "who", "whose"}
SOURCES = [path for name in ("jaxdet", "configs", "launch", "tests") for path in (ROOT / name).rglob("*.py")]
PACKAGE = {path: ast.parse(path.read_text()) for path in (ROOT / "jaxdet").rglob("*.py")}


def test_docstrings_open_with_a_noun_phrase_or_a_verb():
    documented = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    questions = [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: {text.splitlines()[0]}"
        for path, tree in PACKAGE.items()
        for node in ast.walk(tree)
        if isinstance(node, documented) and (text := ast.get_docstring(node))
        if text.split()[0].lower().strip(".,:;'") in QUESTIONS
    ]
    assert questions == [], "\n".join(questions)


def test_lines_have_at_most_110_columns():
    long = [
        f"{path.relative_to(ROOT)}:{number}: {len(line)} columns"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > 110
    ]
    assert long == [], "\n".join(long)


def test_files_are_short():
    """At most 360 lines: a longer file is about more than one thing."""
    counts = {path: len(path.read_text().splitlines()) for path in PACKAGE}
    long = [f"{path.relative_to(ROOT)}: {n} lines" for path, n in counts.items() if n > 360]
    assert long == [], "\n".join(long)


def test_a_class_name_has_one_meaning():
    places = defaultdict(list)
    for path, tree in PACKAGE.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
