"""The training configs that ship in the package, and finding one by its name or path."""

from importlib.resources import files
from pathlib import Path

from refocus.configs.errors import RefocusError
from refocus.configs.loading import load
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
    """Read a training run by its path or preset name.

    Raises
    ------
    RefocusError
        There is no such file, or a key or value in it is wrong; the message names the line.
    """
    return load(find_config(config), TrainConfig)
