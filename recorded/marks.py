"""What is written into a result of who made it."""

from importlib.metadata import version
from typing import Any

from refocus.engine.protocol import EngineInfo


def software_of(info: EngineInfo) -> str:
    """Say who made it, and with which model: a mark that the pixels are not the camera's."""
    card = info.card
    model = f"{card.name} {card.sha256[:12]}".rstrip() if card else "no model"
    return f"refocus-live {version('refocus-live')} (refocused: {model})"


def identify_engine(info: EngineInfo) -> dict[str, Any]:
    """Say what decides about pixels: not the machine, nor how many threads it has."""
    engine = {key: value for key, value in info.describe().items() if key != "device"}
    return {**describe(info), "engine": engine}


def describe(info: EngineInfo) -> dict[str, Any]:
    """Say the same in full."""
    return {
        "software": software_of(info),
        "engine": info.describe(),
        "model_version": info.card.version if info.card else "",
    }
