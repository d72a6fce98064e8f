#!/usr/bin/env python3
"""Train with several processes on this machine, started again from the last checkpoint when one of them dies.

    launch/local.py --processes=2 --config=configs/gen1_hmnet.py:b3,tbptt --workdir=runs/b3
    launch/local.py --processes=4 --gpus=8 --config=...              # two GPUs each
    launch/local.py --processes=2 --command=jaxdet.evaluate --config=... --weights=runs/b3

Flags other than those below are the command's own.
"""

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time

TOLD_TO_STOP = (signal.SIGTERM, signal.SIGINT)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--gpus", type=int, default=0, help="GPUs of this machine, divided among the processes"
    )
    parser.add_argument("--restarts", type=int, default=3, help="how often a job that died is started again")
    parser.add_argument("--command", default="jaxdet.train", help="module that is run")
    parser.add_argument(
        "--grace_s", type=float, default=60, help="how long processes may take to save and end"
    )
    options, arguments = parser.parse_known_args()
    job = Job(options, [sys.executable, "-u", "-m", options.command, *arguments])
    for number in TOLD_TO_STOP:
        signal.signal(number, job.stop)
    for attempt in range(options.restarts + 1):
        if attempt:
            say(f"restart {attempt} of {options.restarts}")
        if job.run() or job.stopping:
            break
    sys.exit(0 if job.succeeded else 1)


class Job:
    """The processes of one attempt."""

    def __init__(self, options, command):
        self.options, self.command = options, command
        self.processes, self.succeeded = [], False
        self.stopping, self.deadline = False, float("inf")

    def run(self):
        """Start all, wait for all; whether another attempt would make no sense."""
        port, secret = free_port(), os.environ.get("JAXDET_JOB_SECRET") or secrets.token_hex(32)
        self.processes = [self.start(i, port, secret) for i in range(self.options.processes)]
        if self.stopping:  # the signal came while they were started
            self.stop()
        first = self.wait_for_first_failure()
        self.succeeded = first is None
        if first is None:
            return True
        status = self.processes[first].returncode
        say(f"process {first} {ending(status)}; ending the others" if status else "not ended in time")
        self.end_all()
        # 1: the command has said what is wrong with its input, and would again.
        return all(process.returncode in (0, 1) for process in self.processes)

    def start(self, index, port, secret):
        environ = {
            **os.environ,
            "JAXDET_COORDINATOR": f"127.0.0.1:{port}",
            "JAXDET_PROCESS_ID": str(index),
            "JAXDET_NUM_PROCESSES": str(self.options.processes),
            "JAXDET_JOB_SECRET": secret,
        }
        if self.options.gpus:
            each = self.options.gpus // self.options.processes
            environ["CUDA_VISIBLE_DEVICES"] = ",".join(str(index * each + i) for i in range(each))
        process = subprocess.Popen(
            self.command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        say(f"process {index} is pid {process.pid}")
        threading.Thread(target=copy, args=(index, process.stdout), daemon=True).start()
        return process

    def wait_for_first_failure(self):
        """Number of the first process that ends badly, None if none does."""
        while True:
            ended = [process.poll() for process in self.processes]
            bad = [i for i, status in enumerate(ended) if status]
            if bad:
                return min(
                    bad, key=lambda i: ended[i] > 0
                )  # one that was killed is the reason, not the victim
            if None not in ended:
                return None
            if time.monotonic() > self.deadline:
                return ended.index(None)
            time.sleep(0.1)

    def end_all(self):
        """The others notice by themselves and say what they know; whoever does not is killed and named."""
        deadline = min(self.deadline, time.monotonic() + self.options.grace_s)
        while any(p.poll() is None for p in self.processes) and time.monotonic() < deadline:
            time.sleep(0.1)
        for i, process in enumerate(self.processes):
            if process.poll() is None:
                say(f"process {i} still runs after {self.options.grace_s:.0f} s: killed")
                process.kill()
            process.wait()

    def stop(self, *_):
        """Told to stop: the processes save and end."""
        self.stopping, self.deadline = True, time.monotonic() + self.options.grace_s
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ending(status):
    return f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def copy(index, lines):
    for line in lines:
        sys.stdout.buffer.write(b"[%d] " % index + line)
        sys.stdout.buffer.flush()


def say(line):
    print(f"launch: {line}", flush=True)


if __name__ == "__main__":
    main()
