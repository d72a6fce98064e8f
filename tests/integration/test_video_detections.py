"""Seq-NMS of real detections of three MOT sequences, from text to text.

JAXDET_REAL_DATA names the folder that holds `video_detections/<sequence>/det.txt`.
"""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import seqnms_reference as reference

from jaxdet import seqnms
from jaxdet.detections import files

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("JAXDET_REAL_DATA" not in os.environ, reason="JAXDET_REAL_DATA is not set"),
]
SEQUENCES = ("KITTI-17", "TUD-Campus", "TUD-Stadtmitte")


@pytest.mark.parametrize("name", SEQUENCES)
def test_real_detections_equal_the_reference(tmp_path, name):
    source = Path(os.environ["JAXDET_REAL_DATA"]) / "video_detections" / name / "det.txt"
    table = np.loadtxt(source, delimiter=",")
    boxes = np.concatenate([table[:, 2:4], table[:, 2:4] + table[:, 4:6]], axis=1)
    frames = [
        (boxes[rows], table[rows, 6], np.zeros(rows.sum(), int))
        for rows in (table[:, 0] == number for number in np.unique(table[:, 0]))
    ]
    kept, new = reference.exact(frames, 0.6)
    out, picture = tmp_path / "det.txt", tmp_path / "change.png"
    arguments = [f"--detections={source}", "--min_score=0.6", f"--out={out}", f"--render={picture}"]
    assert seqnms.main(arguments) == 0
    found = files.read(out).frames
    expected = [[] for _ in frames]
    for t, label, row in kept:
        expected[t].append((*frames[t][0][row], new[label][t][row]))
    expected = [rows for rows in expected if rows]
    assert [len(frame.scores) for frame in found] == [len(rows) for rows in expected]
    for frame, rows in zip(found, expected):
        # The text carries sides; corners come back within a last bit.
        np.testing.assert_allclose(np.c_[frame.xyxy, frame.scores], rows, rtol=1e-12, atol=0)
    assert cv2.imread(str(picture)).std() > 0
