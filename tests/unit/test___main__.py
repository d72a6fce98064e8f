"""`jaxdet COMMAND` and what the package promises at its door."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jaxdet
from jaxdet import __main__ as door

ROOT = Path(__file__).parents[2]


def test_without_a_command_all_are_listed_with_what_they_do(capsys):
    assert door.main([]) == 0
    out = capsys.readouterr().out
    for name in door.COMMANDS:
        assert f"\n  {name} " in out
    assert "Train a detector." in out


def test_version_and_misspelt_commands(capsys):
    assert door.main(["--version"]) == 0
    assert capsys.readouterr().out == f"jaxdet {jaxdet.__version__}\n"
    assert door.main(["trian"]) == 1
    assert "did you mean train?" in capsys.readouterr().err


def test_a_command_gets_its_flags(capsys):
    assert door.main(["submit", "--nothing"]) == 1
    assert "no flag 'nothing'" in capsys.readouterr().err


def test_help_of_every_command_names_its_flags_and_none_of_absl(capsys):
    for name in ("seqnms", "predict"):
        with pytest.raises(SystemExit):
            door.main([name, "--help"])
        out = capsys.readouterr().out
        assert "--out" in out
        assert "flagfile" not in out


def test_importing_the_package_imports_no_jax_and_no_opencv():
    heavy = ("jax", "flax", "cv2", "orbax", "h5py", "matplotlib")
    script = f"import sys, jaxdet; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_wheel_holds_every_package_and_the_configs():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "jaxdet").rglob("__init__.py")
    }
    assert sorted(listed) == sorted(folders | {"jaxdet.configs"})
