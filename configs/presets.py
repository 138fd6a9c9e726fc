"""The training configs that ship in the package, and finding one by its name or path."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from refocus.configs.errors import RefocusError
from refocus.configs.loading import Place, Settings, check, read_settings
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
        There is no such file, or a key or value in it, or in one that it is based on, is wrong; the
        message names the file and the line.
    """
    files = _with_bases(find_config(config))
    values: dict[str, Any] = {}
    for settings in reversed(files):
        values = _merged(values, settings.values)
    return check(TrainConfig, values, lambda place: (_source(files, place).where(place), place))


def _with_bases(path: Path, around: tuple[Path, ...] = ()) -> list[Settings]:
    """Read a file, and after it those that it is based on, nearest first."""
    settings = read_settings(path, TrainConfig)
    base = settings.values.get("based_on")
    if around:  # a run's name is its own
        settings.values.pop("name", None)
    if base is None:
        return [settings]
    here = settings.where(("based_on",))
    if not isinstance(base, str) or not base:
        raise RefocusError(f"{here}: based_on: {base!r} is no run; name its file or preset")
    around = (*around, path.resolve())
    below = _find_base(base, path.parent, here)
    if below.resolve() in around:
        raise RefocusError(f"{here}: the run is based on itself; name another")
    return [settings, *_with_bases(below, around)]


def _find_base(base: str, folder: Path, here: str) -> Path:
    """Find it beside the file that names it, or as any config."""
    if (folder / base).is_file():
        return folder / base
    try:
        return find_config(base)
    except RefocusError as error:
        raise RefocusError(f"{here}: based_on: {error}") from error


def _source(files: list[Settings], place: Place) -> Settings:
    """Find the file that a value is from: the first that says most of its place."""
    found, most = files[0], 0
    for settings in files:
        value: Any = settings.values
        depth = 0
        for key in place:
            if not isinstance(value, dict) or key not in value:
                break
            value, depth = value[key], depth + 1
        if depth > most:
            found, most = settings, depth
        if not isinstance(value, dict):  # and has replaced what is below
            break
    return found


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Put what is given above in the place of what is below, key by key at every level."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        merged[key] = _merged(below[key], value) if both else value
    return merged
