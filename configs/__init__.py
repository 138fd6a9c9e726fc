"""Settings and descriptions: pydantic models, YAML presets, and the error that users read.

Nothing here computes or touches a device; every other stage may import it.
"""

from refocus.configs.card import ModelCard
from refocus.configs.errors import Incomplete, RefocusError
from refocus.configs.optics import BBBC006, Optics

__all__ = [
    "BBBC006",
    "Incomplete",
    "ModelCard",
    "Optics",
    "RefocusError",
    "command",
    "hosts",
    "lazy",
    "light_path",
    "live_config",
    "loading",
    "options",
    "presets",
    "terminal",
    "training",
    "trust",
]
