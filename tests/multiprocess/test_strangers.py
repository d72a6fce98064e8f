"""Programs that are not of a job, on the same machine; on another one see test_hosts.py."""

import socket

import pytest
import strangers


@pytest.fixture
def coordinator():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_stranger_who_joins_first_gets_no_seat_and_runs_nothing(coordinator, tmp_path):
    zero = strangers.process(tmp_path, coordinator, 0)
    other = strangers.stranger(tmp_path, coordinator)
    zero.wait_for(lambda: "turned away a program on 127.0.0.1" in zero.output, "a stranger at the door")
    strangers.tell(tmp_path)
    one = strangers.process(tmp_path, coordinator, 1)
    assert [zero.wait(), one.wait()] == [0, 0], zero.output + one.output
    other.kill()
    other.wait()
    strangers.assert_undisturbed(tmp_path, [zero, one], other)


def test_a_process_with_another_secret_ends_with_a_line_and_so_does_the_job(coordinator, tmp_path):
    # It knocks until there is a door, so it comes in time for process 0 to turn it away.
    one = strangers.process(tmp_path, coordinator, 1, JAXDET_JOB_SECRET="another secret..")
    zero = strangers.process(tmp_path, coordinator, 0, JAXDET_START_S="8")
    assert [zero.wait(), one.wait()] == [1, 1]
    assert "error: process 1 of 2 did not come to the coordinator" in zero.output
    assert "without the job's secret" in zero.output
    assert "error: process 1 was turned away by the coordinator" in one.output
    assert "Traceback" not in zero.output + one.output


def test_processes_started_by_hand_share_the_key_of_their_user(coordinator, tmp_path):
    alike = {"JAXDET_JOB_SECRET": "", "XDG_CACHE_HOME": str(tmp_path / "home")}
    strangers.tell(tmp_path)
    jobs = [strangers.process(tmp_path, coordinator, index, **alike) for index in range(2)]
    assert [job.wait() for job in jobs] == [0, 0], "".join(job.output for job in jobs)
    assert all("second [0, 10]" in job.output for job in jobs)


def test_a_machine_with_another_home_is_told_to_set_the_secret(coordinator, tmp_path):
    def process(index, **more):
        more |= {"JAXDET_JOB_SECRET": "", "XDG_CACHE_HOME": str(tmp_path / f"home{index}")}
        return strangers.process(tmp_path, coordinator, index, **more)

    jobs = [process(1), process(0, JAXDET_START_S="8")]
    assert [job.wait() for job in jobs] == [1, 1]
    assert all("set JAXDET_JOB_SECRET alike for all processes" in job.output for job in jobs)
    assert all("Traceback" not in job.output for job in jobs)


# Knows the secret at the door and another one in the store, as a program that got past the door would.
FORGER = """
from jaxdet.distributed import store
exchanged = store.Store._exchanged
def forged(self, name, own, timeout_s):
    self.key = type(self.key)(b"another secret..")
    return exchanged(self, name, own, timeout_s)
store.Store._exchanged = forged
"""


def test_a_seat_that_is_taken_is_found_before_anything_is_exchanged(coordinator, tmp_path, monkeypatch):
    zero = strangers.process(tmp_path, coordinator, 0)
    monkeypatch.setattr(strangers, "JOB", FORGER + strangers.JOB)
    one = strangers.process(tmp_path, coordinator, 1)
    statuses = [zero.wait(), one.wait()]
    assert statuses == [75, 75], zero.output + one.output
    assert (
        "error: process 0: the seat of process 1 is taken by a program that showed a wrong proof"
        in zero.output
    )
    assert "first" not in zero.output + one.output
