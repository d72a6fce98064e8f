"""Two hosts with addresses of their own, as network namespaces of this machine; needs root."""

import json
import os
import shutil
import socket
import subprocess
import time

import cluster_jobs as jobs
import pytest
import strangers

pytestmark = pytest.mark.slow

HOSTS = ("jaxdet-a", "jaxdet-b")
ADDRESSES = ("10.213.7.1", "10.213.7.2")


def _ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts():
    """Names of two namespaces joined by a cable; each resolves this machine's name to its own address."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    try:
        for name in HOSTS:
            _ip("netns", "add", name)
        _ip(
            "link",
            "add",
            "veth0",
            "netns",
            HOSTS[0],
            "type",
            "veth",
            "peer",
            "name",
            "veth0",
            "netns",
            HOSTS[1],
        )
        for name, address in zip(HOSTS, ADDRESSES):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "veth0")
            _ip("-n", name, "link", "set", "veth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            os.makedirs(f"/etc/netns/{name}", exist_ok=True)
            with open(f"/etc/netns/{name}/hosts", "w") as file:
                file.write(f"127.0.0.1 localhost\n{address} {socket.gethostname()}\n")
        yield HOSTS
    finally:
        for name in HOSTS:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
            shutil.rmtree(f"/etc/netns/{name}", ignore_errors=True)


def _start(hosts, arguments):
    running = []
    for index, name in enumerate(hosts):
        environ = jobs.environment(
            1,
            JAXDET_COORDINATOR=f"{ADDRESSES[0]}:29500",
            JAXDET_PROCESS_ID=str(index),
            JAXDET_NUM_PROCESSES=str(len(hosts)),
            JAXDET_JOB_SECRET=strangers.SECRET,
            JAXDET_SILENT_S="25",
        )
        running.append(jobs.Job(["ip", "netns", "exec", name, *jobs.launched(1, *arguments)], environ))
    return running


def test_two_hosts_train_and_a_cut_cable_ends_both_with_a_line_that_says_why(hosts, tmp_path):
    root, workdir = jobs.make_recordings(tmp_path / "data"), tmp_path / "run"
    short = _start(hosts, jobs.train_flags(root, workdir, "--config.train.num_iterations=2"))
    assert [job.wait() for job in short] == [0, 0], short[0].output + short[1].output
    assert jobs.checkpoints(workdir)[-1] == 4

    long = _start(hosts, jobs.train_flags(root, workdir, "--config.train.num_iterations=100000"))
    log = workdir / "train.jsonl"
    long[0].wait_for(lambda: json.loads(log.read_text().splitlines()[-1])["step"] > 6, "step")
    _ip("-n", hosts[1], "link", "set", "veth0", "down")
    cut = time.monotonic()
    assert all(job.wait() for job in long)
    assert time.monotonic() - cut < 60 + 30  # a minute, and a busy machine
    assert "process 1" in long[0].output
    assert "process 0" in long[1].output or "coordinator" in long[1].output


def _listening(name):
    """Addresses on which a namespace listens, as the kernel writes them: hexadecimal address:port."""
    command = ["ip", "netns", "exec", name, "cat", "/proc/net/tcp", "/proc/net/tcp6"]
    rows = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [row.split()[1] for row in rows if row.split()[3] == "0A"]


@pytest.mark.parametrize("moment", ["first", "complete"])
def test_a_stranger_on_another_host_gets_no_seat_runs_nothing_and_changes_nothing(hosts, tmp_path, moment):
    coordinator = f"{ADDRESSES[0]}:29500"
    on = [("ip", "netns", "exec", name) for name in hosts]
    zero = strangers.process(tmp_path, coordinator, 0, on[0])
    if moment == "complete":
        one = strangers.process(tmp_path, coordinator, 1, on[1])
        zero.wait_for(lambda: "first" in zero.output, "a first exchange")
    other = strangers.stranger(tmp_path, coordinator, on[1])
    zero.wait_for(lambda: f"turned away a program on {ADDRESSES[1]}" in zero.output, "a stranger at the door")
    own = "".join(f"{int(part):02X}" for part in reversed(ADDRESSES[0].split(".")))
    assert _listening(hosts[0]) == [f"{own}:{29500:04X}"]
    if moment == "first":
        one = strangers.process(tmp_path, coordinator, 1, on[1])
    # Its own limit for joining passes while the job goes on.
    other.process.wait(jobs.LIMIT_S)
    strangers.tell(tmp_path)
    assert [zero.wait(), one.wait()] == [0, 0], zero.output + one.output
    strangers.assert_undisturbed(tmp_path, [zero, one], other)
