"""A frame in, a refocused frame out.

An engine takes raw camera pixels and gives back pixels of the same shape and dtype; everything
between (conversion, normalisation, padding, tiling, the network) belongs to it.
"""

from refocus.engine.open import open_engine
from refocus.engine.protocol import Engine, EngineError, EngineInfo, LightPath, Refocused, Ticket

__all__ = [
    "Engine",
    "EngineError",
    "EngineInfo",
    "LightPath",
    "Refocused",
    "Ticket",
    "by_channel",
    "cache_folder",
    "fallback",
    "graph_digest",
    "half_precision",
    "model_file",
    "nvidia",
    "open",
    "open_engine",
    "openvino",
    "package",
    "parity",
    "prepare",
    "protocol",
    "refocuser",
    "region",
    "shipped",
    "tiling",
]
