"""What a run tells of the light path is kept for the next one of that rig."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from refocus.acquisition import attach
from refocus.configs import RefocusError
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.shipped import shipped_models
from refocus.recorded.process import process

from ..conftest import loops


@pytest.fixture
def engine() -> Iterator[OpenVinoEngine]:
    opened = OpenVinoEngine(shipped_models()["any-objective"], precision="f32")
    yield opened
    opened.close()


def test_attach_and_process_keep_the_light_path_in_one_file(
    engine: OpenVinoEngine, microscope, tmp_path: Path
) -> None:
    rig = tmp_path / "rig.json"
    with attach(microscope.core, engine=engine, light_path=rig) as live:
        microscope.core.mda.run(loops(2, channels=["DAPI"]))
    assert live.stats.check().published == 2
    assert json.loads(rig.read_text())["channels"]["DAPI"]["frames"] == 2

    frame = np.random.default_rng(0).integers(100, 4000, (64, 64)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", frame)
    options = {"on_progress": lambda done: None, "light_path": rig}
    process(tmp_path / "in.tif", tmp_path / "out.tif", engine, **options)
    assert set(json.loads(rig.read_text())["channels"]) == {"DAPI", ""}


def test_a_file_of_another_kind_is_refused_before_the_first_frame(
    engine: OpenVinoEngine, microscope, tmp_path: Path
) -> None:
    rig = tmp_path / "rig.json"
    rig.write_text("{}")
    with pytest.raises(RefocusError, match=r"rig\.json: is no file of light paths"):
        attach(microscope.core, engine=engine, light_path=rig)
    assert rig.read_text() == "{}"
