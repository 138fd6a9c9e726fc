"""The training configs that ship in the package, and finding one by its name or path."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from refocus.configs.errors import RefocusError
from refocus.configs.loading import Settings, check, read_settings
from refocus.configs.training import TrainConfig


def preset_files() -> dict[str, Path]:
    """Give the file of every preset by its name."""
    folder = Path(str(files("refocus.configs"))) / "train"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def find_config(config: str) -> Path:
    """Find a config: the path of a file, or the bare name of a preset.

    Raises
    ------
    RefocusError
        It is neither.
    """
    if Path(config).is_file():
        return Path(config)
    presets = preset_files()
    if config in presets:
        return presets[config]
    raise RefocusError(f"{config}: no such file, nor a preset; presets: {', '.join(presets)}")


def load_train_config(config: str) -> TrainConfig:
    """Read a training run by its path or preset name, and what it is based on.

    Raises
    ------
    RefocusError
        There is no such file, or a key or value in it is wrong; the message names the line.
    """
    settings = _complete(config)
    return check(TrainConfig, settings.values, lambda place: (settings.where(place), place))


def _complete(config: str, around: tuple[Path, ...] = ()) -> Settings:
    """Read a file, and fill in what it leaves to the one that it is based on."""
    path = find_config(config)
    settings = read_settings(path, TrainConfig)
    base = settings.values.get("based_on")
    if base is None:
        return settings
    if path in around:
        raise RefocusError(
            f"{settings.where(('based_on',))}: the run is based on itself; name another"
        )
    below = _complete(str(base), (*around, path)).values
    return Settings(path, _merged(below, settings.values), settings.lines)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Put what is given above in the place of what is below, key by key at every level."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        merged[key] = _merged(below[key], value) if both else value
    return merged
