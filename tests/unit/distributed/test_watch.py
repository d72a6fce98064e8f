"""Notes of strangers: they accuse nobody, end nothing and do not reach the terminal."""

import json

import pytest

from jaxdet.distributed.store import Store
from jaxdet.distributed.trust import Key
from jaxdet.distributed.watch import COMPUTING, LOST, Board, Watch, printable, read_note

SECRET = Key(b"0123456789abcdef")
NOTE = {"host": "h", "doing": COMPUTING, "done": 1, "failed": "", "status": 0, "left": False, "beat": 1}


class Client:
    """The part of JAX's client that a watch uses."""

    def __init__(self):
        self.values = {}

    def key_value_set_bytes(self, key, value, allow_overwrite=False):
        self.values[key] = value

    def key_value_dir_get_bytes(self, folder):
        return [pair for pair in self.values.items() if pair[0].startswith(folder)]


class Quiet(Watch):
    """A watch that exchanges when it is told to: no second passes in a test."""

    TICK_S = 1e6


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b"{}",
        json.dumps({**NOTE, "done": "1"}).encode(),
        json.dumps({**NOTE, "done": True}).encode(),
        json.dumps({**NOTE, "more": 1}).encode(),
    ],
)
def test_what_is_no_note_is_none(data):
    assert read_note(data) is None


def test_texts_of_a_note_cannot_move_the_cursor_or_start_a_line():
    note = read_note(json.dumps({**NOTE, "failed": "a\x1b[2Jb\nerror: c\u202ed\ud800é"}).encode())
    assert note == {**NOTE, "failed": r"a\x1b[2Jb\nerror: c\u202ed\ud800é"}
    assert len(printable("\n" * 10_000)) == 300


def test_notes_of_strangers_are_ignored_and_told_once(caplog):
    client = Client()
    watches = [Quiet(Store(client, SECRET, process, 2), 25, 1800) for process in (0, 1)]
    for watch in watches:
        watch._exchange()
    client.values["jaxdet/watch/1"] = json.dumps({**NOTE, "failed": "forged", "status": 1}).encode()
    client.values["jaxdet/watch/7"] = client.values["jaxdet/watch/x"] = b"\xff"
    for _ in range(2):
        watches[0]._exchange()
        assert watches[0]._board.verdict() is None
    assert [r.message for r in caplog.records if "watch/1 was not written" in r.message]
    assert len(caplog.records) == 1
    watches[1]._exchange()
    watches[0]._exchange()
    assert watches[0]._board.notes[1]["beat"] == 2


def test_an_old_note_that_is_repeated_is_no_sign_of_life():
    board = Board(0, 2, 3, 1000)
    for tick in range(1, 4):
        board.hear({0: {**NOTE, "beat": tick}, 1: {**NOTE, "beat": tick}})
        assert board.verdict() is None
    found = []
    for tick in range(4, 12):
        board.hear({0: {**NOTE, "beat": tick}, 1: {**NOTE, "beat": tick % 3}})
        found.append(board.verdict())
    line, status = next(verdict for verdict in found if verdict)
    assert "process 1 on h is silent" in line
    assert status == LOST
