"""A file whose chunks the encoder of the camera's maker compressed (prophesee-ai/hdf5_ecf, a filter of HDF5).

`ecf/maker.h5` holds random events in the three layouts of chunks, a burst at one time, an event that comes
late and a last chunk that is not full; `given` in it are the same events as the encoder was given them.
"""

from pathlib import Path

import h5py
import numpy as np

from jaxdet.data.events.open import open_events

PATH = Path(__file__).with_name("ecf") / "maker.h5"


def test_chunks_of_the_maker_s_encoder():
    stream = open_events(PATH)
    found = [np.concatenate(columns) for columns in zip(*stream, strict=True)]
    with h5py.File(PATH) as file:
        given = [file["given"][name][:] for name in "txyp"]
        chunks = file["CD/events"].id
        layouts = {chunks.read_direct_chunk((start,))[1][0] & 3 for start in range(0, len(given[0]), 512)}
    given[0] = np.maximum.accumulate(given[0])  # the encoder gives a late event the time of the one before
    assert layouts == {0, 1, 2}
    assert (stream.kind, stream.width, stream.height) == ("hdf5-ecf", 1280, 720)
    for values, expected in zip(found, given, strict=True):
        np.testing.assert_array_equal(values, expected)
