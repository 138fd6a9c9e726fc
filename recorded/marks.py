"""What is written into a result of who made it."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from refocus.engine.protocol import EngineInfo
from refocus.engine.shipped import shipped_models
from refocus.recorded.selection import Selection


def software_of(info: EngineInfo) -> str:
    """Say who made it, and with which model: a mark that the pixels are not the camera's."""
    card = info.card
    model = f"{card.name} {card.sha256[:12]}".rstrip() if card else "no model"
    return f"refocus-live {version('refocus-live')} (refocused: {model})"


def identify_engine(info: EngineInfo, selection: Selection) -> dict[str, Any]:
    """Say what decides about pixels: not the machine, nor how many threads it has.

    Parameters
    ----------
    info
        Of the engine.
    selection
        With the models of some channels, whose files are identified as well.
    """
    engine = {key: value for key, value in info.describe().items() if key != "device"}
    models = {}
    for model in sorted((selection.channels or {}).values()):
        if content := identify_content(shipped_models().get(model, Path(model))):
            models[model] = content
    return {**describe(info), "engine": engine, "models": models}


def identify_content(file: Path | None) -> str:
    """Tell what a file holds from what it held before; empty where nothing can be read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file else ""
    except OSError:
        return ""


def describe(info: EngineInfo) -> dict[str, Any]:
    """Say the same in full."""
    return {
        "software": software_of(info),
        "engine": info.describe(),
        "model_version": info.card.version if info.card else "",
    }


def write_record(path: Path, said: Any) -> None:
    """Write what is said of a result as JSON, which escapes a name that is no UTF-8."""
    text = json.dumps(said, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
