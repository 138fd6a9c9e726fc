"""The models that ship, and which of them frames are for."""

from importlib.resources import files
from pathlib import Path

from refocus.configs import BBBC006
from refocus.configs.light_path import LightPath
from refocus.engine.model_file import read_model

OF_ONE_INSTRUMENT, OF_ANY = "refocus-compact", "any-objective"
SAME_APERTURE, SAME_INDEX = 0.20, 0.05
"""As fractions, how far from those of its instrument a model of one works well."""
FINEST_UM = BBBC006.emission_um / (4 * BBBC006.na)
"""Half of what its aperture resolves: whoever has finer pixels has most likely a wider one."""


def shipped_models() -> dict[str, Path]:
    """Find the models that ship in the package, by name."""
    folder = Path(str(files("refocus.engine") / "models"))
    return {file.stem: file for file in sorted(folder.glob("*.onnx"))}


def default_model(*known: LightPath) -> Path:
    """Find the model that ships for frames of these light paths.

    That of one instrument, 20×/0.5, is faster, and its verdicts are better. It is taken until
    something that is known says that the objective is another: its aperture, its immersion, or
    pixels that are too fine for that one. Pixels of another size alone may be those of another
    camera, and frames are resampled.
    """
    models = shipped_models()
    another = any(_is_another(path) and _is_trained_for(models[OF_ANY], path) for path in known)
    return models[OF_ANY if another else OF_ONE_INSTRUMENT]


def _is_another(path: LightPath) -> bool:
    """Whether something that is known is not of 20×/0.5."""
    if path.immersion_index and abs(path.immersion_index - BBBC006.immersion_index) > SAME_INDEX:
        return True
    if path.na:
        return abs(path.na / BBBC006.na - 1.0) > SAME_APERTURE
    return 0.0 < path.pixel_size_um < FINEST_UM


def _is_trained_for(model: Path, path: LightPath) -> bool:
    """Whether a model was trained for pixels so coarse; frames of finer ones it resamples."""
    from refocus.engine.light_path.sight import told  # SciPy: only where it is needed

    card = read_model(model)[1]
    return card.sampling is None or told(path)[0] <= card.sampling[1]
