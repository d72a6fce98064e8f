"""The example that `train` runs without --config: a small HMNet on simulated recordings."""

from jaxdet import config as c


def get_config(_: str = ""):
    return c.synthetic()
