"""Settings and descriptions: pydantic models, YAML presets, and the error that users read.

Nothing here computes or touches a device; every other stage may import it.
"""

from refocus.configs.card import ModelCard
from refocus.configs.errors import (
    Incomplete,
    RefocusError,
    first_fault,
    in_a_line,
    one_line,
    reason_of,
    sentence_of,
)
from refocus.configs.optics import BBBC006, Optics

__all__ = [
    "BBBC006",
    "Incomplete",
    "ModelCard",
    "Optics",
    "RefocusError",
    "command",
    "files",
    "first_fault",
    "hosts",
    "in_a_line",
    "light_path",
    "live_config",
    "loading",
    "one_line",
    "options",
    "presets",
    "reason_of",
    "sentence_of",
    "terminal",
    "training",
    "trust",
]
