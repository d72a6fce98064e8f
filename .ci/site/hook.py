"""MkDocs hook: generated parts of pages, lines of code, and the pages that lie outside of docs/."""

import os
import re
from pathlib import Path
from typing import Literal

import code_lines
import command_pages
import config_keys
import error_lines
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
GENERATED = {
    "commands": command_pages.page,
    "config keys": config_keys.page,
    "errors": error_lines.page,
}
COPIED = {name: f"{name.lower()}.md" for name in ("ARCHITECTURE", "CONTRIBUTING", "CHANGELOG")}


def on_startup(command: Literal["build", "gh-deploy", "serve"], dirty: bool) -> None:
    """Let notebooks compile in half the time: what they run is small and runs once."""
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for name, path in COPIED.items():
        text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
        files.append(File.generated(config, path, content=relinked(text)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put what `<!-- generated: NAME -->` stands for in its place, and lines behind names of code."""
    if page.file.src_uri == "read_code.md":
        markdown = code_lines.numbered(markdown)
    return re.sub(r"<!-- generated: ([\w ]+) -->", lambda match: GENERATED[match[1]](), markdown)


def relinked(text: str) -> str:
    """Links of a page at the root of the repository, as links of a page in docs/."""
    text = re.sub(r"\]\((ARCHITECTURE|CONTRIBUTING|CHANGELOG)\.md", lambda m: f"]({COPIED[m[1]]}", text)
    text = text.replace("](docs/)", "](index.md)")
    return re.sub(r"\]\(docs/", "](", text)
