"""What a person wants to see, run after run: position, channel and plane, each by its name."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from refocus.view.places import Wanted

AXES = {"p": "position", "c": "channel", "z": "plane"}
NOWHERE = -1
"""A number that no position, channel or plane has."""


class Choice:
    """A place that stays chosen; by name, because another run has other numbers for its positions.

    Attributes
    ----------
    names
        By axis, ``p``, ``c`` or ``z``, the name that is wanted; None follows the run.
    offered
        By axis, each name that the run has shown, in order, and what it stands for.
    """

    def __init__(self) -> None:
        self.names: dict[str, str | None] = dict.fromkeys(AXES)
        self.offered: dict[str, dict[str, Any]] = {axis: {} for axis in AXES}

    def update(self, state: Mapping[str, Any]) -> None:
        """Take note of what there is, as :meth:`StreamState.state` tells it."""
        places, run = state["places"], state["run"]
        names = dict(enumerate(run["positions"] if run else []))
        times = Counter(names.values())
        self.offered = {
            "p": {
                names[p] if names.get(p) and times[names[p]] == 1 else f"p {p}": p
                for p in places["p"]
            },
            "c": {name or "no name": name for name in places["c"]},
            "z": {f"z {z}": z for z in places["z"]},
        }

    @property
    def wanted(self) -> Wanted:
        """The place in this run."""
        return Wanted(**{a: self.offered[a].get(name, NOWHERE) for a, name in self._chosen()})

    @property
    def lacking(self) -> str:
        """What is wanted and has not come in this run, in words; empty where nothing is."""
        gone = [name for axis, name in self._chosen() if name not in self.offered[axis]]
        come = bool(self.offered["c"])  # a run that has only begun lacks everything
        return f"nothing of {', '.join(gone)} in this run yet" if gone and come else ""

    def _chosen(self) -> list[tuple[str, str]]:
        return [(axis, name) for axis, name in self.names.items() if name is not None]
