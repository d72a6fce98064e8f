"""Files and lines of the names of the package that a page gives."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"`(jaxdet(?:\.\w+)+)`")


class NoSuchName(Exception):
    """A page names something that the package lacks."""


def place(name: str) -> tuple[str, int]:
    """Path below the root and line of `jaxdet.module.Class.method`, 1 of a module; NoSuchName for others."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        for path in (Path(*parts[:count]).with_suffix(".py"), Path(*parts[:count], "__init__.py")):
            if (ROOT / path).is_file():
                tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
                return path.as_posix(), _line(tree, parts[count:], name)
    raise NoSuchName(name)


def _line(node: ast.AST, parts: list[str], name: str) -> int:
    line = 1
    for part in parts:
        found = next((one for one in ast.iter_child_nodes(node) if part in _names(one)), None)
        if found is None:
            raise NoSuchName(name)
        node, line = found, found.lineno
    return line


def _names(node: ast.AST) -> set[str]:
    """Names that a statement defines."""
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            return {name}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
        case ast.Assign(targets=targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
    return set()


def numbered(markdown: str) -> str:
    """The page with file and line behind each name in backquotes."""

    def shown(match: re.Match) -> str:
        path, line = place(match[1])
        return f"{match[0]} ({path.removeprefix('jaxdet/')}:{line})"

    return NAME.sub(shown, markdown)
