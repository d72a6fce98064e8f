"""Progress is a bar for people and lines for files; colour obeys NO_COLOR."""

import io
import logging
import sys

import pytest

from jaxdet import terminal


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "no_color", "expected"),
    [
        (_Terminal(), "", "\x1b[31mx\x1b[0m"),
        (_Terminal(), "1", "x"),
        (io.StringIO(), "", "x"),
        (None, "", "x"),
    ],
)
def test_colour_is_for_terminals_without_no_color(monkeypatch, stream, no_color, expected):
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    assert terminal.paint("x", "red", stream) == expected


def test_a_dumb_terminal_is_none(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert not terminal.is_terminal(_Terminal())


def test_without_a_terminal_there_is_a_line_now_and_then(monkeypatch, caplog):
    now = iter([0.0, 5.0, 20.0, 21.0])
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(now))
    with caplog.at_level(logging.INFO):
        assert list(terminal.track("abc", "read", 5, "letters")) == ["a", "b", "c"]
    # Two of five in 20 s: the other three take 30 s.
    assert caplog.messages == ["read: 2 of 5 letters, 0.1/s, 0:00:30 left"]


def test_a_bar_keeps_log_lines_whole_and_gives_the_stream_back(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    screen = _Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    handler = logging.StreamHandler(screen)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        with terminal.Progress("train", 3, "steps") as progress:
            progress.advance(2, "loss 1.5")
            logging.info("a line")
            progress.advance()
        assert handler.stream is screen
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    shown = screen.getvalue()
    assert "a line\n" in shown
    assert "3/3" in shown


def test_durations_are_hours_minutes_and_seconds():
    assert terminal.duration(3 * 3600 + 62.4) == "3:01:02"
