"""The report of an installation finds what is there, and a broken part does not hide the rest."""

import importlib.metadata
import json

import pytest

from jaxdet import doctor
from jaxdet.benchmarks import installation


def test_required_packages_are_those_of_the_project_and_not_of_its_extras():
    names = set(installation.required())
    assert {"jax", "flax", "numpy", "opencv-python-headless"} <= names
    assert not {"onnx", "pytest", "mkdocs-material"} & names


def test_a_missing_package_is_a_fault_with_the_command_that_installs_it(monkeypatch):
    found = importlib.metadata.version

    def version(name):
        if name == "lz4":
            raise importlib.metadata.PackageNotFoundError
        return found(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    fault = next(fact for fact in installation._packages() if fact.fault)
    assert fault.advice.startswith("pip install 'lz4")


def test_a_part_that_fails_does_not_hide_the_others(monkeypatch, tmp_path):
    def broken():
        raise RuntimeError("no\ndevice")

    monkeypatch.setattr(installation, "_devices", broken)
    monkeypatch.setattr(installation, "_DISK_MIB", 1)
    found = installation.facts(tmp_path, "0")
    assert [fact.value for fact in found if fact.fault] == ["RuntimeError: no device"]
    assert {"jaxdet", "packages", "films", "disk"} <= {fact.name for fact in found}


def test_doctor_prints_json_and_leaves_nothing_behind(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(installation, "_DISK_MIB", 1)
    assert doctor.main([f"--folder={tmp_path}", "--json"]) == 0
    names = [fact["name"] for fact in json.loads(capsys.readouterr().out)]
    assert names[0] == "jaxdet"
    assert "disk" in names
    assert not list(tmp_path.iterdir())


def test_a_fault_ends_in_status_1(monkeypatch, capsys):
    fault = installation.Fact("devices", "none", "plug one in", True)
    monkeypatch.setattr(installation, "facts", lambda folder, version: [fault])
    assert doctor.main([]) == 1
    out, err = capsys.readouterr()
    assert "-> plug one in" in out
    assert "devices" in err


@pytest.mark.parametrize("folder", ["gone"])
def test_a_folder_that_is_not_there_is_said(folder, capsys):
    assert doctor.main([f"--folder={folder}"]) == 1
    assert "gone: no such folder" in capsys.readouterr().err
