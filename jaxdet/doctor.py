"""Say what is installed, what works and what is missing, with the command that installs it.

    python -m jaxdet.doctor
    python -m jaxdet.doctor --folder=/data --json

Versions, devices, codecs, caches, the speed of the disk of --folder: the first thing to look at, and to put
into a report of a fault. Nothing is left behind. Exit status 1 if something that jaxdet needs does not work.
"""

import sys
from pathlib import Path

import jaxdet
from jaxdet import cli
from jaxdet.benchmarks import installation
from jaxdet.errors import InputError


def _flags(flags: cli.Flags) -> None:
    flags.string("folder", ".", "folder whose disk is timed, 64 MiB written and read")
    flags.boolean("json", False, "one JSON list")


def _run(flags: cli.Flags) -> None:
    folder = Path(flags.folder)
    if not folder.is_dir():
        raise InputError(f"--folder={folder}: no such folder")
    found = installation.facts(folder, jaxdet.__version__)
    print(installation.as_json(found) if flags.json else installation.text(found))
    faults = [fact.name for fact in found if fact.fault]
    if faults:
        raise InputError(f"does not work: {', '.join(faults)}; see above")


main = cli.Command(_flags, _run, __doc__)

if __name__ == "__main__":
    sys.exit(main())
