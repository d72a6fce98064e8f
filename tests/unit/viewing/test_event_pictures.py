"""Events as pictures."""

import numpy as np

from jaxdet.viewing import drawing
from jaxdet.viewing.event_pictures import EventPictures


def test_accumulated_events_are_those_since_the_last_picture_and_decayed_ones_fade():
    pictures = EventPictures((4, 6))
    pictures.add([1_000, 2_000, 3_000], [1, 2, 9], [0, 1, 0], [1, 0, 1])  # the third is outside
    first = pictures.take(3_000)
    seen = {name: (picture != drawing.BACKGROUND).any(-1) for name, picture in first.items()}
    for mask in seen.values():
        assert sorted(zip(*np.nonzero(mask), strict=True)) == [(0, 1), (1, 2)]
    later = pictures.take(53_000)
    assert (later["accumulated"] == drawing.BACKGROUND).all()
    contrast = [np.abs(p["decayed"][0, 1].astype(float) - drawing.BACKGROUND).max() for p in (first, later)]
    assert abs(contrast[1] / contrast[0] - np.exp(-1)) < 0.02  # bytes: 1 in 200
