"""Processes that prove the secret get through the door; others are turned away and keep nobody out."""

import socket
import threading

import pytest

from jaxdet.distributed import door, tunnel
from jaxdet.distributed.door import Door, Seat
from jaxdet.distributed.trust import SIZE, Key
from jaxdet.errors import InputError

SECRET = Key(b"0123456789abcdef")


def _address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def entrances():
    """Function (address, key, process, count) -> a door or a seat; all are closed afterwards."""
    made = []

    def make(address, key=SECRET, process=0, count=2):
        made.append(Seat(address, key, process) if process else Door(address, key, count))
        return made[-1]

    yield make
    for entrance in made:
        entrance.close()


def _together(*works):
    """What each returns or raises, run at the same time."""
    found = [None] * len(works)

    def run(i):
        try:
            found[i] = works[i]()
        except Exception as error:
            found[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def _serve_echo(path):
    """In place of JAX's service: sends back in capitals what it gets until the end, then a last word."""
    listener = tunnel.listen_local(path)

    def serve():
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(1 << 16):
                connection.sendall(data.upper())
            connection.sendall(b"bye")

    threading.Thread(target=serve, daemon=True).start()
    return listener


def test_all_wait_for_all_and_bytes_pass_both_ways(entrances):
    address = _address()
    host = entrances(address, count=3)
    guests = [entrances(address, process=p) for p in (1, 2)]
    assert _together(*(lambda e=e: e.wait(20) for e in (host, *guests))) == [None] * 3
    with _serve_echo(host.service), tunnel.connect_local(guests[0].service) as connection:
        sent = b"abcdefgh" * 100_000
        threading.Thread(
            target=lambda: (connection.sendall(sent), connection.shutdown(socket.SHUT_WR)), daemon=True
        ).start()
        connection.settimeout(20)
        with connection.makefile("rb") as stream:
            assert stream.read() == sent.upper() + b"bye"


def _knock(address, data):
    """What the door says to a program that sends `data`, None if it hangs up."""
    host, port = tunnel.split(address)
    with socket.create_connection((host, port), timeout=20) as connection:
        greeting = connection.recv(100)
        assert greeting.startswith(door.MAGIC)
        data = data(greeting) if callable(data) else data
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(100)
        except TimeoutError:
            raise
        except OSError:  # the door did not read to the end: its answer is lost, the connection reset
            return None


def _hello(greeting, key=SECRET, wanted=door.JOIN, process=1):
    hello = door._HELLO.pack(wanted, process, bytes(32))
    return hello + key.mark(b"process", greeting, hello)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100),
        bytes(door._HELLO.size + SIZE),
        lambda greeting: _hello(greeting, Key(b"another secret..")),
        lambda greeting: _hello(greeting, wanted=door.TUNNEL, key=Key(b"another secret..")),
        lambda greeting: _hello(door.MAGIC + bytes(32)),  # an answer to another greeting
        lambda greeting: _hello(greeting, process=0),
        lambda greeting: _hello(greeting, process=2),
        lambda greeting: _hello(greeting, wanted=b"?"),
    ],
)
def test_a_stranger_is_turned_away_and_the_job_starts(entrances, data):
    address = _address()
    host = entrances(address)
    assert _knock(address, data) in (door.REFUSED, None)
    guest = entrances(address, process=1)
    assert _together(lambda: host.wait(20), lambda: guest.wait(20)) == [None, None]
    assert _knock(address, data) in (door.REFUSED, None)  # of a complete job too


def test_another_secret_is_told_to_both_sides(entrances):
    address = _address()
    host = entrances(address)
    guest = entrances(address, Key(b"another secret.."), process=1)
    errors = _together(lambda: host.wait(1), lambda: guest.wait(20))
    assert all(isinstance(error, InputError) for error in errors)
    assert "process 1 of 2 did not come" in str(errors[0])
    assert "1 connections without the job's secret were turned away" in str(errors[0])
    assert "was turned away" in str(errors[1])


def test_a_coordinator_that_does_not_know_the_secret_gets_nothing(entrances):
    """It greets and accepts as a door does, but cannot mark."""
    got = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(door.MAGIC + bytes(32))
                got.append(connection.recv(1000))
                connection.sendall(door.ACCEPTED + bytes(SIZE))
                got.append(connection.recv(1000))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        guest = entrances(f"127.0.0.1:{listener.getsockname()[1]}", process=1)
        with pytest.raises(InputError, match="does not know the job's secret"):
            guest.wait(20)
        thread.join(20)
    assert got[1] == b""


def test_who_waits_is_told_that_another_did_not_come(entrances):
    address = _address()
    host = entrances(address, count=3)
    guest = entrances(address, process=1)
    errors = _together(lambda: host.wait(1), lambda: guest.wait(20))
    assert "process 2 of 3 did not come" in str(errors[0])
    assert "was sent away" in str(errors[1])


@pytest.mark.parametrize("address", ["192.0.2.1:29500", "no-such-host.invalid:29500"])
def test_an_address_that_is_not_of_this_machine_is_an_error(address):
    with pytest.raises(InputError, match="JAXDET_COORDINATOR"):
        Door(address, SECRET, 2)


def test_the_door_listens_on_its_own_address_alone(entrances):
    address = _address()
    entrances(address)
    port = tunnel.split(address)[1]
    with socket.socket() as other:
        other.bind(("127.0.0.2", port))  # it would be in use if the door listened on all
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_the_private_folder_is_private_and_goes(monkeypatch):
    monkeypatch.setattr(tunnel, "_folders", [])
    folder = tunnel.private_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    listener = tunnel.listen_local(folder / "service")
    listener.close()
    tunnel.remove_folders()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("address", "parts"),
    [("node1:80", ("node1", 80)), ("[::1]:80", ("::1", 80)), ("10.0.0.7:1", ("10.0.0.7", 1))],
)
def test_an_address_has_a_host_and_a_port(address, parts):
    assert tunnel.split(address) == parts
