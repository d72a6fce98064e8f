"""Object detection in event streams and thermal video, in JAX."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdet.api import Model as Model
    from jaxdet.api import load as load
    from jaxdet.detections.exchange import read_boxes as read_boxes
    from jaxdet.detections.exchange import to_supervision as to_supervision
    from jaxdet.detections.exchange import to_table as to_table
    from jaxdet.detections.exchange import write_boxes as write_boxes
    from jaxdet.structs import Boxes as Boxes
    from jaxdet.viewing.drawing import draw_boxes as draw  # noqa: F401

__version__ = "0.3.0"

# Public names and where they live; a module is imported when one of its names is first used, so that `import
# jaxdet` costs nothing and needs no jax.
_PUBLIC = {
    "load": ("api", "load"),
    "Model": ("api", "Model"),
    "Boxes": ("structs", "Boxes"),
    "read_boxes": ("detections.exchange", "read_boxes"),
    "write_boxes": ("detections.exchange", "write_boxes"),
    "draw": ("viewing.drawing", "draw_boxes"),
    "to_supervision": ("detections.exchange", "to_supervision"),
    "to_table": ("detections.exchange", "to_table"),
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'jaxdet' has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    return getattr(import_module(f"jaxdet.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
