"""What OME-XML says of the light path: pixel size, objective, emission."""

from math import isfinite
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from refocus.configs.light_path import (
    EMISSION_UM,
    LARGEST_INDEX,
    LARGEST_NA,
    MEDIA,
    LightPath,
    within,
)
from refocus.optics.ome_zarr import MICROMETRES, one_size


def light_paths(root: ElementTree.Element) -> list[tuple[LightPath, ...]]:
    """Give what is stated of the light path, for each image and each of its channels.

    An image without channels has one. What cannot be, such as an aperture of 20, is left out.

    Parameters
    ----------
    root
        ``OME``.
    """
    lenses = {e.get("ID"): e for e in root.iter() if tag(e) == "Objective"}
    found = []
    for image in (e for e in root.iter() if tag(e) == "Image"):
        na, index = _objective(image, lenses)
        for pixels in (e for e in image if tag(e) == "Pixels"):
            size_um = pixel_size_um(pixels)
            channels = [e for e in pixels if tag(e) == "Channel"]
            waves = [_um(c, "EmissionWavelength", "nm") for c in channels] or [0.0]
            found.append(
                tuple(LightPath(size_um, na, index, within(EMISSION_UM, wave)) for wave in waves)
            )
    return found


def zarr_light_paths(folder: Path) -> list[tuple[LightPath, ...]]:
    """Give the same of the OME-XML that a converted OME-Zarr keeps; nothing where it has none."""
    path = folder / "OME" / "METADATA.ome.xml"
    try:
        return light_paths(ElementTree.fromstring(path.read_bytes()))
    except (OSError, ElementTree.ParseError):
        return []


def pixel_size_um(pixels: ElementTree.Element) -> float:
    """Give the size of a pixel that ``Pixels`` states, µm; 0.0 where it is not known."""
    return one_size([_um(pixels, f"PhysicalSize{side}", "µm") for side in "XY"])


def step_um(pixels: ElementTree.Element) -> float:
    """Give the step of a z-stack that ``Pixels`` states, µm; 0.0 where it is not known."""
    return _um(pixels, "PhysicalSizeZ", "µm")


def tag(element: Any) -> str:
    """Give the name of an element, whatever version of the schema it is of."""
    return str(element.tag).rpartition("}")[2]


def number(text: Any) -> float:
    """Read a number; 0.0 where there is none."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return 0.0
    return value if isfinite(value) else 0.0


def _objective(
    image: ElementTree.Element, lenses: dict[str | None, ElementTree.Element]
) -> tuple[float, float]:
    """Give aperture and immersion index of the objective of an image, or of the only one."""
    settings = next((e for e in image if tag(e) == "ObjectiveSettings"), None)
    lens = lenses.get(settings.get("ID")) if settings is not None else None
    if settings is None and len(lenses) == 1:
        (lens,) = lenses.values()
    index = number(settings.get("RefractiveIndex")) if settings is not None else 0.0
    na, medium = 0.0, ""
    if lens is not None:
        na, medium = number(lens.get("LensNA")), (lens.get("Immersion") or "").lower()
    if not 1.0 <= index < LARGEST_INDEX:
        index = {**MEDIA, "waterdipping": MEDIA["water"]}.get(medium, 0.0)
    return within((0.0, LARGEST_NA), na), index


def _um(element: ElementTree.Element, name: str, unit: str) -> float:
    return number(element.get(name)) * MICROMETRES.get(element.get(f"{name}Unit", unit), 0.0)
