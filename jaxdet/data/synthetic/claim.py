"""The folder of a simulated set, which holds nothing else."""

from pathlib import Path

from jaxdet.errors import InputError
from jaxdet.files import atomic


def claim(out: Path, layout: str, simulation: str) -> None:
    """Mark the folder `out` as the `simulation`, a line of text, of a layout.

    A run that was stopped finds its own mark. InputError if `out` holds anything else.
    """
    marker, text = out / f"synthetic_{layout}.txt", f"{simulation}\n"
    if out.is_dir() and any(out.iterdir()) and not (marker.is_file() and marker.read_text() == text):
        raise InputError(f"{out}: not a simulation of {simulation}; choose another --out")
    with atomic(marker) as temporary:
        temporary.write_text(text)
