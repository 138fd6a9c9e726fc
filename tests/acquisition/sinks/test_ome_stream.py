"""The private names of ome-writers that we use: which one changed, if one did."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import ome_writers
import pytest
import tensorstore

from refocus.acquisition.sinks.ome_stream import PRIVATE, check_private_names, fill_in, pending
from refocus.configs import RefocusError


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[ome_writers.OMEStream]:
    side = {"count": 32, "type": "space"}
    dims = [
        ome_writers.Dimension(name="t", count=None, chunk_size=1, type="time"),
        *(ome_writers.Dimension(name=name, **side) for name in "yx"),
    ]
    settings = ome_writers.AcquisitionSettings(
        root_path=str(tmp_path / "a.ome.zarr"), dimensions=tuple(dims), dtype="uint16"
    )
    with ome_writers.create_stream(settings) as stream:
        yield stream


def test_the_ome_writers_that_is_installed_has_every_private_name_that_we_use(
    stream: ome_writers.OMEStream,
) -> None:
    check_private_names(stream)  # raises with the name that changed


@pytest.mark.parametrize("gone", PRIVATE)
def test_a_private_name_that_is_gone_is_named(gone: str) -> None:
    names = {name: [] for name in PRIVATE if name != gone}
    changed: Any = SimpleNamespace(_backend=SimpleNamespace(**names))
    with pytest.raises(RefocusError, match=rf"ome-writers .*: has no SimpleNamespace\.{gone} any"):
        check_private_names(changed)


def test_a_stream_that_hides_its_backend_elsewhere_is_named() -> None:
    changed: Any = SimpleNamespace()
    with pytest.raises(RefocusError, match=r"has no OMEStream\._backend any more"):
        check_private_names(changed)


def test_unfinished_writes_that_are_no_list_are_named() -> None:
    names: dict[str, Any] = {name: [] for name in PRIVATE} | {"_futures": {}}
    changed: Any = SimpleNamespace(_backend=SimpleNamespace(**names))
    with pytest.raises(RefocusError, match=r"has no SimpleNamespace\._futures as a list"):
        check_private_names(changed)


def test_a_frame_is_filled_in_behind_the_stream_and_cuts_nothing(
    stream: ome_writers.OMEStream, tmp_path: Path
) -> None:
    frames = [np.full((32, 32), value, np.uint16) for value in (1, 2, 3)]
    stream.append(frames[0])
    stream.skip()
    stream.append(frames[2])
    fill_in(stream, 0, (1,), frames[1], {"frame": 1})
    assert len(pending(stream)) == 3
    stream.close()
    spec = {"driver": "zarr3", "kvstore": f"file://{tmp_path}/a.ome.zarr/0"}
    assert tensorstore.open(spec).result().read().result()[:, 0, 0].tolist() == [1, 2, 3]
