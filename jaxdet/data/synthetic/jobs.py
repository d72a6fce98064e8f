"""Work of a simulation: the folder that it claims, and its parts in several processes."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from jaxdet import terminal
from jaxdet.errors import InputError
from jaxdet.files import atomic


def claim(out: Path, layout: str, simulation: str) -> None:
    """Mark the folder `out`, which holds nothing else, as the `simulation`, a line of text, of a layout.

    A run that was stopped finds its own mark. InputError if `out` holds anything else.
    """
    marker = out / f"synthetic_{layout}.txt"
    if out.is_dir() and any(out.iterdir()) and not marker.is_file():
        raise InputError(f"{out}: not a simulation of {simulation}; choose another --out")
    describe(marker, f"{simulation}\n")


def describe(path: Path, simulation: str) -> None:
    """Write the file that says which simulation is in its folder; InputError if it names another one."""
    if not path.is_file():
        with atomic(path) as temporary:
            temporary.write_text(simulation)
    elif (found := path.read_text()) != simulation:
        raise InputError(
            f"{path} has {found.strip()}, not a simulation of {simulation.strip()}; "
            "choose another --out or remove it"
        )


def run(write: Callable[..., None], jobs: Sequence[tuple], workers: int, unit: str) -> None:
    """Call `write` with the arguments of each of `jobs`, in processes if there are several `workers`.

    `unit` is what a job makes, in the plural, for the progress in the log.
    """
    for _ in terminal.track(_results(write, jobs, workers), "simulate", len(jobs), unit):
        pass


def _results(write: Callable[..., None], jobs: Sequence[tuple], workers: int) -> Iterator[None]:
    if workers < 2 or len(jobs) < 2:
        for job in jobs:
            yield write(*job)
        return
    # Spawned, not forked: the calling process may run threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        futures = [pool.submit(write, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
