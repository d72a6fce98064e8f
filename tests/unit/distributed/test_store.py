"""Bytes reach the other processes unchanged; those written by strangers, elsewhere or earlier are found."""

import threading

import pytest

from jaxdet.distributed.store import Store
from jaxdet.distributed.trust import Forged, Key

SECRET = b"0123456789abcdef"


class Client:
    """JAX's client as far as the store uses it, all processes on one dictionary."""

    def __init__(self):
        self.values, self.changed = {}, threading.Condition()

    def key_value_set_bytes(self, key, value, allow_overwrite=False):
        with self.changed:
            assert allow_overwrite or key not in self.values
            self.values[key] = value
            self.changed.notify_all()

    def blocking_key_value_get_bytes(self, key, timeout_ms):
        with self.changed:
            if not self.changed.wait_for(lambda: key in self.values, min(timeout_ms / 1000, 20)):
                raise RuntimeError(f"DEADLINE_EXCEEDED: {key}")
            return self.values[key]

    def key_value_delete(self, key):
        self.values = {k: v for k, v in self.values.items() if not k.startswith(key)}


def _stores(client, *secrets, timeout_s=20):
    """Stores of as many processes after their handshake, or what each raised in it."""
    found = {}

    def shake(process, secret):
        store = Store(client, Key(secret), process, len(secrets))
        try:
            store.shake_hands(timeout_s)
            found[process] = store
        except Forged as error:
            found[process] = error

    threads = [threading.Thread(target=shake, args=pair) for pair in enumerate(secrets) if pair[1]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found.get(process) for process in range(len(secrets))]


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 21) + 1])
def test_every_process_gets_what_each_left_and_nothing_stays(size):
    client = Client()
    stores = _stores(client, SECRET, SECRET, SECRET)
    before = set(client.values)
    for store in stores:
        store.put("gather/0", bytes([store.process]) * size)
    for store in stores:
        assert [store.get("gather/0", p) for p in range(3)] == [bytes([p]) * size for p in range(3)]
    for store in stores:
        store.delete("gather/0")
    assert set(client.values) == before


def test_who_knows_another_secret_is_named_by_all():
    errors = _stores(Client(), SECRET, b"another" * 3, SECRET)
    for own, named in ((0, 1), (2, 1), (1, 0)):
        assert f"seat of process {named} is taken" in str(errors[own])


def test_who_shows_nothing_is_named():
    (error, _) = _stores(Client(), SECRET, None, timeout_s=0.2)
    assert "seat of process 1 is taken by a program that showed no proof within 0 s" in str(error)


def test_a_handshake_of_an_earlier_run_that_somebody_repeats_is_found():
    old = Client()
    _stores(old, SECRET, SECRET)
    repeated = Client()
    repeated.values = {k: v for k, v in old.values.items() if k.endswith("/1")}
    (error, _) = _stores(repeated, SECRET, None, timeout_s=0.2)
    assert "seat of process 1 is taken by a program that showed a wrong proof" in str(error)


def _pair():
    client = Client()
    return client, *_stores(client, SECRET, SECRET)


@pytest.mark.parametrize("change", ["other bytes", "no mark", "empty", "cut"])
def test_a_changed_value_is_found(change):
    client, zero, one = _pair()
    one.put("gather/0", b"value" * 20)
    key = "jaxdet/gather/0/1/0"
    client.values[key] = {
        "other bytes": client.values[key][:-1] + b"x",
        "no mark": b"value",
        "empty": b"",
        "cut": client.values[key][:-1],
    }[change]
    with pytest.raises(Forged, match="gather/0/1/0 was not written by a process of this job"):
        zero.get("gather/0", 1)


def test_a_value_under_another_name_or_of_another_run_is_found():
    client, zero, one = _pair()
    one.put("gather/0", b"first")
    client.values["jaxdet/gather/1/1/0"] = client.values["jaxdet/gather/0/1/0"]
    with pytest.raises(Forged):
        zero.get("gather/1", 1)
    other, _, again = _pair()  # same secret
    again.put("gather/0", b"first")
    client.values["jaxdet/gather/0/1/0"] = other.values["jaxdet/gather/0/1/0"]
    with pytest.raises(Forged):
        zero.get("gather/0", 1)


def test_a_value_that_a_stranger_left_before_is_replaced():
    client, zero, one = _pair()
    client.values["jaxdet/gather/0/1/0"] = b"stranger"
    one.put("gather/0", b"own")
    assert zero.get("gather/0", 1) == b"own"
