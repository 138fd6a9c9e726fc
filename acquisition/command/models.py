"""What ``refocus-live models`` lists: the models that are installed, as their cards say it."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from refocus.configs import ModelCard
from refocus.engine.model_file import read_model
from refocus.engine.shipped import OF_ANY, OF_ONE_INSTRUMENT, shipped_models

TAKEN = {
    OF_ONE_INSTRUMENT: "where --engine names none, for its objective or an unknown one",
    OF_ANY: "where --engine names none, for every other objective that is known",
}
"""When a model that ships is taken where none is named."""


def list_models(others: Iterable[Path] = ()) -> Iterator[dict[str, Any]]:
    """Describe the models that ship, and others; each is checked against its checksums.

    Parameters
    ----------
    others
        Files of further models.

    Raises
    ------
    RefocusError
        A file is no model, or not as it was signed.
    """
    ship = shipped_models().values()
    for file in (*ship, *others):
        _, card = read_model(file)
        yield {
            "name": card.name,
            "version": card.version,
            "taken": TAKEN.get(file.stem, "") if file in ship else "",
            "objectives": objectives(card),
            "distance_um": list(card.defocus_um),
            "stains": list(card.stains),
            "trained_on": card.training_data,
            "judges": card.trust is not None,
            "licence": card.licence,
            "sha256": card.sha256,
            "file": str(file),
        }


def objectives(card: ModelCard) -> str:
    """Say which objectives a model is for."""
    if card.aperture is None or card.sampling is None:
        optics = card.optics
        return (
            f"NA {optics.na:g}, pixels of {optics.pixel_size_um:g} µm, light of "
            f"{optics.emission_um:g} µm; others are resampled to it"
        )
    (smallest, largest), (finest, coarsest) = card.aperture, card.sampling
    return (
        f"any with NA / index {smallest:g} to {largest:g} and pixel × NA / wavelength "
        f"{finest:g} to {coarsest:g}"
    )
