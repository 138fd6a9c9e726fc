"""The options that ``attach`` shares with ``refocus-live run``: names, defaults, complaints."""

import inspect

import numpy as np
import pytest
import useq

from refocus.acquisition import Selection, attach
from refocus.acquisition.pipeline.pipeline import Pipeline
from refocus.configs import RefocusError
from refocus.configs.light_path import KnownOptics
from refocus.configs.live_config import DEFAULTS, LiveConfig, RefocusOptions, load_live_config
from refocus.configs.options import option_name
from refocus.engine.fake import FakeEngine

from ..conftest import loops

ANY = "tcp://127.0.0.1:*"
TAKEN = {
    "engine": ["fake", FakeEngine()],
    "policy": ["newest"],
    "queue": [3, np.int64(3)],
    "refocus_z": [True],
    "channels": [{"DAPI": "auto"}, ["DAPI=auto"]],
    "every_nth": [2],
    "region": [(8, 8, 40, 32), [8, 8, 40, 32], tuple(np.array([8, 8, 40, 32])), "8,8,40,32"],
    "on_distrust": ["refocused"],
    "optics": [{"na": 0.75, "channels": {"DAPI": {"emission_um": 0.46}}}, KnownOptics(na=0.75)],
    "light_path": ["rig.json"],
    "publish": [ANY],
    "publish_raw": [True],
    "insecure": [True],
    "keys": ["keys/publisher"],
    "shared_memory": [True],
}


def test_names_and_defaults_are_those_of_a_run() -> None:
    parameters = inspect.signature(attach).parameters
    assert list(TAKEN) == list(RefocusOptions.model_fields)
    for name in TAKEN:
        assert (
            parameters[name].default
            == getattr(DEFAULTS, name)
            == LiveConfig(demo=True).__dict__[name]
        )
    given = inspect.signature(Pipeline).parameters
    assert given["capacity"].default == DEFAULTS.queue
    assert all(
        given[n].default == getattr(DEFAULTS, n)
        for n in ("policy", "region", "on_distrust", "optics", "light_path")
    )


@pytest.mark.parametrize("name", TAKEN)
def test_each_is_taken(name, microscope) -> None:
    for value in TAKEN[name]:
        with attach(microscope.core, **{"engine": FakeEngine(), name: value}) as live:
            microscope.core.mda.run(loops(1, channels=["DAPI"]))
        assert live.stats.check().published == 1


STACK = useq.MDASequence(z_plan={"range": 4, "step": 2})


@pytest.mark.parametrize(
    ("options", "sequence", "published"),
    [
        ({}, STACK, 0),
        ({"refocus_z": True}, STACK, 3),
        ({"every_nth": 2}, loops(5), 3),
        ({"channels": {"BF": "auto"}}, loops(2, channels=["DAPI", "BF"]), 2),
    ],
)
def test_they_are_those_of_a_selection(options, sequence, published, microscope) -> None:
    for settings in (options, {"selection": Selection(**options)}):
        with attach(microscope.core, engine=FakeEngine(), queue=9, **settings) as live:
            microscope.core.mda.run(sequence)
        assert live.stats.check().published == published


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("policy", "oldest"),
        ("queue", 0),
        ("queue", "many"),
        ("channels", "DAPI"),
        ("every_nth", 0),
        ("region", (0, 0, 16, 64)),
        ("region", (0, 0, 64)),
        ("on_distrust", "both"),
        ("optics", 0.75),
        ("publish", "nowhere"),
        ("refocus_z", "perhaps"),
    ],
)
def test_a_wrong_value_is_refused_in_the_words_of_the_command(name, value, microscope) -> None:
    with pytest.raises(RefocusError) as of_command:
        load_live_config(None, {"demo": True, name: value})
    with pytest.raises(RefocusError) as of_attach:
        attach(microscope.core, engine=FakeEngine(), **{name: value})
    typed = option_name(LiveConfig, name)
    assert str(of_command.value).removeprefix(typed) == str(of_attach.value).removeprefix(name)
    assert len(microscope.core.mda.events.frameReady) == 0


def test_a_selection_beside_its_options_is_refused(microscope) -> None:
    with pytest.raises(RefocusError, match=r"^attach: selection .*leave one or the other out$"):
        attach(microscope.core, engine=FakeEngine(), selection=Selection(), every_nth=2)
