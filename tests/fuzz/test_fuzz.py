"""Damaged files of every kind end as data or as one line, in bounded time and memory.

`JAXDET_FUZZ=10000 pytest -n 2 -rP -m fuzz tests/fuzz` runs that many cases of each reader and prints a table;
`JAXDET_FUZZ_CASE=READER:NUMBER pytest -n 0 -m fuzz tests/fuzz` runs one case as it was.
"""

import os
import resource
import signal
import traceback

import numpy as np
import pytest
from readers import READERS

from jaxdet.errors import InputError

SECONDS, BYTES, SHORT = 5, 2 << 30, 12


class Hang(BaseException):
    """Raised when a case takes longer than SECONDS."""


def _stop(*_):
    raise Hang


@pytest.fixture(autouse=True)
def bounds():
    """Bound the address space to what is used now and BYTES more; alarms become `Hang`."""
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    limits, handler = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, _stop)
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)
    signal.signal(signal.SIGALRM, handler)


def case(name: str, number: int, whole: bytes, path) -> str:
    """Outcome of one case: "data", "InputError", or a fault with its place."""
    reader = READERS[name]
    rng = np.random.default_rng([sum(map(ord, name)), number])
    damaged = reader.damage(whole, rng)
    path.write_bytes(damaged)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        reader.read(path)
        return "data"
    except InputError as error:
        text = str(error)
        bad = "\n" in text or not text.isprintable()
        return f"fault {name}:{number}: more than one printable line {text!r}" if bad else "InputError"
    except Hang:
        return f"fault {name}:{number}: over {SECONDS} s"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return (
            f"fault {name}:{number}: {type(error).__name__}: {str(error)[:80]} ({last.name}, {last.lineno})"
        )
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def outcomes(name: str, numbers, folder) -> dict[str, int]:
    """Number of cases by outcome."""
    reader = READERS[name]
    path = folder / f"case{reader.suffix}"
    reader.make(path)
    whole = path.read_bytes()
    reader.read(path)  # the whole file is data
    counts: dict[str, int] = {}
    for number in numbers:
        found = case(name, number, whole, path)
        counts[found] = counts.get(found, 0) + 1
    return counts


# A NumPy cast of NaN warns; so do OpenCV and py7zr of what they are given.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_a_few_damaged_files_of_each_kind(name, tmp_path):
    counts = outcomes(name, range(SHORT), tmp_path)
    assert not [fault for fault in counts if fault.startswith("fault")]


@pytest.mark.fuzz
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files_of_each_kind(name, tmp_path):
    one = os.environ.get("JAXDET_FUZZ_CASE")
    if one and one.rpartition(":")[0] != name:
        pytest.skip("another reader's case was asked for")
    most = int(float(os.environ.get("JAXDET_FUZZ", "1000")) * READERS[name].share)
    numbers = [int(one.rpartition(":")[2])] if one else range(most)
    counts = outcomes(name, numbers, tmp_path)
    faults = {fault: count for fault, count in counts.items() if fault.startswith("fault")}
    data, refused = counts.get("data", 0), counts.get("InputError", 0)
    print(f"| {name} | {len(numbers)} | {data} | {refused} | {sum(faults.values())} |")
    assert not faults, "\n".join(list(faults)[:20])
