"""The page of the viewer."""

import base64
import json
import re

import cv2
import numpy as np

from jaxdet.structs import Boxes
from jaxdet.viewing import viewer
from jaxdet.viewing.viewer import Heading, Moment

EVIL = "</script><script>alert(1)</script>"


def _content(text):
    return json.loads(re.search(r'id="content">(.*?)</script>', text, re.DOTALL)[1])


def test_names_of_foreign_files_cannot_leave_the_data_of_the_page():
    text = viewer.page(Heading(EVIL, (EVIL,), (EVIL,)), [])
    assert text.count("<script") == 2
    assert _content(text)["classes"] == [EVIL]
    assert "alert(1)</script>" not in text


def test_a_moment_keeps_boxes_pictures_and_matches():
    picture = np.full((30, 40, 3), 200, np.uint8)
    boxes = Boxes(
        np.array([[1.0, 2, 11, 12]]), np.array([0.5]), np.zeros(1, np.int32), track_ids=np.array([7])
    )
    truth = Boxes(np.array([[0.0, 0, 10, 10]]), np.ones(1), np.zeros(1, np.int32), crowd=np.ones(1, bool))
    latent = {"memory 1": np.arange(12.0).reshape(3, 4)}
    moment = Moment("1 s", (30, 40), {"picture": picture}, truth, [boxes], [np.array([-2])], latent)
    found = viewer.as_json(moment)
    assert found["found"] == [[[1, 2, 11, 12, 0.5, 0, 7, -2]]]
    assert found["truth"] == [[0, 0, 10, 10, 0, -1]]
    assert found["region"] == [0]
    sizes = {}
    for name, address in (*found["layers"].items(), *found["maps"].items()):
        data = np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8)
        sizes[name] = cv2.imdecode(data, cv2.IMREAD_COLOR).shape
    assert sizes == {"picture": (30, 40, 3), "memory 1": (3, 4, 3)}


def test_large_pictures_are_made_smaller_and_boxes_are_not():
    moment = Moment("x", (10, 3000), {"p": np.zeros((10, 3000, 3), np.uint8)}, None, [], [])
    found = viewer.as_json(moment)
    data = np.frombuffer(base64.b64decode(found["layers"]["p"].partition(",")[2]), np.uint8)
    assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape[1] == 1280
    assert found["size"] == [10, 3000]
    assert found["truth"] is None
