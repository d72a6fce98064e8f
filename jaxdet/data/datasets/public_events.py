"""Public sets of event recordings by the name of their command.

Each is a module with the `SIZE` of its sensor (height, width), its lists of `CLASSES` by their number, and
`find(source, classes)`, which gives its recordings as `event_sets` makes them.
"""

from jaxdet.data.datasets import dsec_det, etram, onempx, pedro, pku_davis_sod

SETS = {
    "1mpx": onempx,
    "etram": etram,
    "dsec-det": dsec_det,
    "pedro": pedro,
    "pku-davis-sod": pku_davis_sod,
}
