"""Every message that bad input can give, read from the sources."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def page() -> str:
    """Markdown of all messages, by module."""
    lines: list[str] = []
    for path in sorted((ROOT / "jaxdet").rglob("*.py")):
        found = list(dict.fromkeys(messages(path.read_text(encoding="utf-8"))))
        if found:
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            lines += [f"### {name}", "", *(f"- `{text}`" for text in found), ""]
    return "\n".join(lines)


def messages(source: str) -> list[str]:
    """Texts of `raise InputError(...)`, with `...` for values."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Raise(exc=ast.Call(func=ast.Name(id="InputError"), args=[text, *_])):
                shown = _text(text).replace("`", "'").strip()
                if any(c.isalpha() for c in shown):
                    found.append(" ".join(shown.split()))
    return found


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) for part in parts)
        case ast.BinOp(left=left, right=right):
            return _text(left) + _text(right)
    return "..."
