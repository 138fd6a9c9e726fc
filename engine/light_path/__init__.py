"""The light path of a frame: estimated from its spectrum, pooled over a run, undone by filters.

:mod:`~refocus.engine.light_path.spectrum` how a frame was blurred shows in its power;
:mod:`~refocus.engine.light_path.estimate` which light paths it may have come through;
:mod:`~refocus.engine.light_path.rings` how wide the blur is, more exactly, through wide apertures;
:mod:`~refocus.engine.light_path.belief` what the frames of a run tell together;
:mod:`~refocus.engine.light_path.belief_file` what a rig's runs tell together;
:mod:`~refocus.engine.light_path.filters` what physics makes of it at those;
:mod:`~refocus.engine.light_path.sight` all of it, for one network.
"""

__all__ = [
    "belief",
    "belief_file",
    "estimate",
    "filters",
    "rings",
    "sight",
    "spectrum",
]
