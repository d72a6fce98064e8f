"""Work of a simulation: the folder that it claims, and its parts in several processes."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
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


def run(write: Callable[[str, int], None], jobs: list[tuple[str, int]], workers: int) -> Iterator[None]:
    """Call `write` for every split and number of `jobs`, in processes if there are several `workers`."""
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
