"""The page that shows boxes as they come."""

import json
import threading
from http.client import HTTPConnection
from urllib.parse import urlsplit

import numpy as np
import pytest

from jaxdet.errors import InputError
from jaxdet.structs import Boxes
from jaxdet.viewing.live_page import EventsOnPage, LivePage, StillsOnPage


def _get(page, path, host=None):
    place = urlsplit(page.url)
    connection = HTTPConnection(place.hostname, place.port, timeout=10)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def _titles(page, after):
    news = json.loads(_get(page, f"/moments?after={after}")[1])
    return [m["title"] for m in news["moments"]], news["last"], news["ended"]


def test_pictures_come_in_order_and_once():
    with LivePage("clip", ("car",), 0.3) as page:
        stills = StillsOnPage(page)
        assert _titles(page, -1) == ([], -1, False)
        for number in range(3):
            stills.add(np.zeros((8, 8, 3), np.uint8), Boxes.none(source="clip", frame=number))
        assert _titles(page, -1) == (["clip_0000", "clip_0001", "clip_0002"], 2, False)
        assert _titles(page, 1) == (["clip_0002"], 2, False)
        assert _titles(page, 2) == ([], 2, False)
        status, text = _get(page, "/")
        assert status == 200
        assert '"live": true' in text


def test_only_the_newest_pictures_are_kept(monkeypatch):
    monkeypatch.setattr("jaxdet.viewing.live_page._KEPT", 4)
    monkeypatch.setattr("jaxdet.viewing.live_page._AT_ONCE", 3)
    with LivePage("clip", (), 0.3) as page:
        stills = StillsOnPage(page)
        for number in range(6):
            stills.add(np.zeros((8, 8, 3), np.uint8), Boxes.none(source="c", frame=number))
        assert _titles(page, -1) == (["c_0002", "c_0003", "c_0004"], 4, False)
        assert _titles(page, 4)[0] == ["c_0005"]


def test_an_open_page_gets_its_last_pictures_before_the_end():
    page = LivePage("clip", (), 0.3)
    stills = StillsOnPage(page)
    stills.add(np.zeros((8, 8, 3), np.uint8), Boxes.none(source="c", frame=0))
    _titles(page, -1)
    stills.add(np.zeros((8, 8, 3), np.uint8), Boxes.none(source="c", frame=1))
    closing = threading.Thread(target=page.close)
    closing.start()
    titles, last, _ = _titles(page, 0)
    closing.join(10)
    assert not closing.is_alive()
    assert (titles, last) == (["c_0001"], 1)


@pytest.mark.parametrize(
    ("path", "host"),
    [("/etc/passwd", None), ("/moments?after=x", None), ("/", "evil.example:80"), ("/moments?after=0", "a")],
)
def test_other_addresses_and_names_of_other_sites_get_nothing(path, host):
    with LivePage("clip", (), 0.3) as page:
        assert _get(page, path, host)[0] == 404


def test_a_port_that_is_taken_is_refused():
    with LivePage("clip", (), 0.3) as page:
        port = urlsplit(page.url).port
        with pytest.raises(InputError, match=f"--view_port={port}"):
            LivePage("clip", (), 0.3, port)
        with pytest.raises(InputError, match="--view_port=99999"):
            LivePage("clip", (), 0.3, 99999)


def test_steps_of_events_make_a_picture_each_stride():
    with LivePage("clip", ("car",), 0.3) as page:
        events = EventsOnPage(page, (24, 32), 2)
        for step in range(1, 6):
            events.add((np.array([3]), np.array([4]), np.array([1])), Boxes.none(time_us=5_000 * step))
        assert _titles(page, -1)[0] == ["0.010 s", "0.020 s"]
