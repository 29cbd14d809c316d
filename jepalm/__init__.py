"""jepalm: train, sample and dissect non-autoregressive JEPA language models.

    import jepalm

    model = jepalm.load("runs/latest")
    model.generate(["To be"])

These names come from `jepalm.api` when they are first asked for: importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jepalm.version import __version__

if TYPE_CHECKING:
    from jepalm.api import Model, load, prepare_pairs, train

__all__ = ["Model", "__version__", "load", "prepare_pairs", "train"]


def __getattr__(name: str) -> Any:
    """A name of the public interface (PEP 562)."""
    if name in __all__:
        return getattr(import_module("jepalm.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
