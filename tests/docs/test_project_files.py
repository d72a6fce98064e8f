"""The workflow, the image and the forms of the project name what exists; pages have a bearable length."""

import importlib.util
import re
import shlex
import tomllib

import doc_pages
import pytest
import yaml
from doc_pages import PAGES, ROOT

from jaxdet import __main__ as commands

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = set(PROJECT["project"]["optional-dependencies"])
GITHUB = ROOT / ".github"
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def _instructions(name):
    """Arguments of the instructions `name` of the Dockerfile."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M).replace("\\\n", " ")
    return [line.removeprefix(name).strip() for line in text.splitlines() if line.startswith(f"{name} ")]


def _check_extras(text):
    for extras in re.findall(r"'?\.\[([\w,]+)\]", text):
        assert set(extras.split(",")) <= EXTRAS, text


def test_the_workflow_runs_what_is_there():
    workflow = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text())
    markers = [line.split(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]]
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    lines = [shlex.split(step["run"]) for step in steps if "run" in step]
    assert [line[0] for line in lines] == [".ci/run", "pip", "pytest"]
    for words in lines:
        _check_extras(" ".join(words))
        if words[0].startswith(".ci"):
            assert (ROOT / words[0]).stat().st_mode & 0o100
        if words[0] == "pytest":
            assert words[words.index("-m") + 1] in markers
    for step in steps:
        assert ("uses" in step) != ("run" in step)
        assert set(step.get("env", {})) <= set(re.findall(r"\$\{(\w+)", (ROOT / ".ci" / "run").read_text()))


def test_the_workflow_covers_the_oldest_python_the_newest_and_the_pinned_versions():
    workflow = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text())
    rows = workflow["jobs"]["check"]["strategy"]["matrix"]["include"]
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert {row["python"] for row in rows} == {oldest, "3.x"}
    for row in rows:
        assert not row["constraints"] or (ROOT / row["constraints"]).is_file()


def test_the_image_is_made_of_files_that_exist():
    for line in _instructions("COPY"):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), line
    (default,) = _instructions("ARG")
    given = re.findall(r"EXTRAS=([\w,]+)", DOCKERFILE)
    assert default.removeprefix("EXTRAS=") in given
    for extras in given:
        assert set(extras.split(",")) <= EXTRAS, extras
    (image,) = _instructions("FROM")
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    version = re.fullmatch(r"python:3\.(\d+)-slim", image)
    assert version
    assert int(version[1]) >= int(oldest.split(".")[1])
    # The package is built of what was copied before.
    built = {"pyproject.toml", "README.md", "LICENSE", "jaxdet", "configs"}
    assert built <= {source for line in _instructions("COPY") for source in line.split()[:-1]}
    # Commands in the comments: what follows the name of the image goes to jaxdet.
    for command in re.findall(r"docker run .*? jaxdet(?::\w+)? (\w+)", DOCKERFILE):
        assert command in commands.COMMANDS
    assert _instructions("ENTRYPOINT") == ['["jaxdet"]']


def test_the_form_for_faults_asks_for_what_exists():
    form = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / "fault.yml").read_text())
    assert {"name", "description", "body"} <= set(form)
    ids = [part["id"] for part in form["body"]]
    assert len(set(ids)) == len(ids)
    for part in form["body"]:
        assert part["type"] in ("textarea", "checkboxes", "input", "dropdown", "markdown")
        assert part["attributes"]["label"]
    text = yaml.safe_dump(form, width=10_000)
    named = re.findall(r"`jaxdet (\w+)", text)
    assert "doctor" in named
    assert set(named) <= set(commands.COMMANDS)
    assert (
        yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / "config.yml").read_text())["blank_issues_enabled"] is True
    )


def test_pictures_of_the_readme_are_there():
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / path).is_file(), path


def test_the_readme_is_short():
    """At most 150 lines, of 100 columns."""
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 100] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_long_pages_have_headings_for_a_list_of_contents(path):
    """The site makes the list of the headings; a page over 1,500 words without them has none."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    assert len(text.split()) <= 1500 or len(re.findall(r"^## ", text, re.M)) >= 3
    assert "hide:" not in text.split("\n---")[0]


def test_every_page_of_the_site_is_listed_in_the_readme_or_the_first_page():
    named = (ROOT / "README.md").read_text() + (ROOT / "docs" / "index.md").read_text()
    for path in doc_pages.PAGES:
        if path.parent.name == "docs" and path.name.startswith("tutorial_"):
            assert path.name in named, path.name


def _newest_python():
    spec = importlib.util.spec_from_file_location("newest_python", ROOT / ".ci" / "newest_python.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_newest_python_is_found_by_number(tmp_path):
    newer_than = _newest_python().newer_than
    for name in ("python3.9", "python3.12", "python3.13-config", "python3.14t"):
        (tmp_path / name).touch()
    for version in ("3.9.18", "3.13.0", "3.13.10", "3.14.0rc1"):
        (tmp_path / "versions" / version / "bin").mkdir(parents=True)
        (tmp_path / "versions" / version / "bin" / "python").touch()
    nowhere = tmp_path / "nowhere"
    assert newer_than(11, [tmp_path], nowhere) == tmp_path / "python3.12"
    assert newer_than(11, [tmp_path], tmp_path) == tmp_path / "versions" / "3.13.10" / "bin" / "python"
    assert newer_than(13, [tmp_path], tmp_path) is None
    assert newer_than(11, [nowhere], nowhere) is None


def test_the_tests_that_the_newest_python_runs_are_there():
    text = (ROOT / ".ci" / "run").read_text()
    named = re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", text)
    assert len(named) >= 4
    for path, test in named:
        assert f"def {test or 'test_'}" in (ROOT / path).read_text()
