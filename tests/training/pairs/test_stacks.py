"""A user's own stacks: read, focused, paired; and those that cannot be used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import tifffile
from numpy.typing import NDArray

from refocus.configs import Optics, RefocusError
from refocus.configs.training import StacksConfig, TrainConfig
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import defocus
from refocus.optics.specimens import nuclei
from refocus.training.pairs.data import TrainingPairs
from refocus.training.pairs.stacks import (
    find_focus,
    list_stacks,
    pairs,
    read_stacks,
    shift_px,
    training_fields,
)

STEP = 4.0
FOCUS = 3

Planes = NDArray[np.uint16]


def make_stack(seed: int = 0, side: int = 256, drift: tuple[float, float] = (0, 0)) -> Planes:
    """Simulate seven planes 4 µm apart, number 3 in focus, drifting sideways."""
    rng = np.random.default_rng(seed)
    field = nuclei((side + 32, side + 32), rng, radius_um=(5.0, 8.0), count=50) * 3000 + 100
    planes = []
    for number in range(7):
        blurred = defocus(field, Optics(), (number - FOCUS) * STEP)
        rows, cols = (round(16 + (number - FOCUS) * d) for d in drift)
        window = blurred[rows : rows + side, cols : cols + side]
        planes.append(CameraModel().expose(window, rng))
    return np.stack(planes)


def write_tiff(path: Path, planes: NDArray[Any]) -> None:
    tifffile.imwrite(path, planes, photometric="minisblack", metadata=None)


def write_white(path: Path, planes: NDArray[Any]) -> None:
    tifffile.imwrite(path, np.invert(planes), photometric="miniswhite", metadata=None)


def write_imagej(path: Path, planes: NDArray[Any]) -> None:
    metadata = {"axes": "ZYX", "spacing": STEP, "unit": "um"}
    tifffile.imwrite(path, planes, imagej=True, metadata=metadata)


def write_ome_tiff(path: Path, planes: NDArray[Any]) -> None:
    metadata = {"axes": "ZYX", "PhysicalSizeZ": STEP * 1000, "PhysicalSizeZUnit": "nm"}
    tifffile.imwrite(path, planes, ome=True, metadata=metadata, compression="lzw")


def write_zarr(path: Path, planes: NDArray[Any]) -> None:
    data = planes[None]
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path / "0")}}
    array = tensorstore.open(
        spec, create=True, dtype=tensorstore.dtype(str(data.dtype)), shape=data.shape
    ).result()
    array.write(data).result()
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    scale = {"type": "scale", "scale": [1, STEP, 0.656, 0.656]}
    multiscale = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": [scale]}]}
    ome = {"version": "0.5", "multiscales": [multiscale]}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
    (path / "zarr.json").write_text(json.dumps(group))


Write = Callable[[Path, NDArray[Any]], None]


@pytest.mark.parametrize(
    ("name", "write", "step"),
    [
        ("stack.tif", write_tiff, None),
        ("stack.tif", write_white, None),
        ("stack.tif", write_imagej, STEP),
        ("stack.ome.tif", write_ome_tiff, STEP),
        ("stack.zarr", write_zarr, STEP),
    ],
)
def test_every_format_gives_the_planes_and_their_step(
    tmp_path: Path, name: str, write: Write, step: float | None
) -> None:
    planes = make_stack()
    write(tmp_path / name, planes)
    (stack,) = read_stacks(tmp_path / name)
    np.testing.assert_array_equal(stack.planes, planes)
    assert stack.z_step_um == step
    assert find_focus(stack) == FOCUS
    fields = training_fields(StacksConfig(folder=tmp_path, z_step_um=STEP))
    assert [f.distance_um for f in fields] == [12, 8, 4, 4, 8, 12]
    frame, target = fields[0].read()
    np.testing.assert_array_equal(frame, planes[0])
    np.testing.assert_array_equal(target, planes[FOCUS])


@pytest.mark.parametrize(
    ("notes", "step"),
    [
        ({"spacing": 2.5, "unit": "um"}, 2.5),
        ({"spacing": 2.5, "unit": "Micron"}, 2.5),
        ({"spacing": 2.5, "unit": ""}, 2.5),
        ({"spacing": 2.5}, 2.5),
        ({"spacing": 2.5, "unit": "nm"}, 0.0025),
        ({"spacing": 2.5, "unit": "pixel"}, None),
        ({"PhysicalSizeZ": 2.5}, 2.5),
        ({"PhysicalSizeZ": 2.5, "PhysicalSizeZUnit": "nm"}, 0.0025),
        ({"PhysicalSizeZ": 2.5, "PhysicalSizeZUnit": "pixel"}, None),
        ({"PhysicalSizeZ": 2.5, "PhysicalSizeZUnit": "reference frame"}, None),
    ],
)
def test_a_step_in_no_unit_of_length_is_none(
    tmp_path: Path, notes: dict[str, Any], step: float | None
) -> None:
    path, imagej = tmp_path / "a.tif", "spacing" in notes
    metadata = {"axes": "ZYX", **notes}
    tifffile.imwrite(path, make_stack(side=64), imagej=imagej, ome=not imagej, metadata=metadata)
    (stack,) = read_stacks(path)
    assert stack.z_step_um == (step if step is None else pytest.approx(step))


def test_channels_and_times_are_stacks_of_their_own(tmp_path: Path) -> None:
    hyperstack = np.stack([[make_stack(t * 2 + c) for c in range(2)] for t in range(2)])
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "TCZYX", "PhysicalSizeZ": STEP}
    tifffile.imwrite(path, hyperstack, ome=True, metadata=metadata)
    stacks = read_stacks(path)
    assert [s.name for s in stacks] == [f"{path} (t={t}, c={c})" for t in (0, 1) for c in (0, 1)]
    np.testing.assert_array_equal(stacks[2].planes, hyperstack[1, 0])


def test_pairs_at_chosen_distances_and_a_given_focus(tmp_path: Path) -> None:
    write_imagej(tmp_path / "a.tif", make_stack())
    (stack,) = read_stacks(tmp_path / "a.tif")
    config = StacksConfig(folder=tmp_path, focus=2, distances_um=[-8.0, 4.5])
    names = [f.name for f in pairs(stack, config)]
    assert names == [f"{tmp_path / 'a.tif'}, plane 0", f"{tmp_path / 'a.tif'}, plane 3"]


def test_stacks_are_trained_on_and_held_out_by_file(tmp_path: Path) -> None:
    for number in range(2):
        write_imagej(tmp_path / f"{number}.tif", make_stack(number))
    source = StacksConfig(folder=tmp_path, folds=2, held_out=0)
    assert {f.name.split(",")[0] for f in training_fields(source)} == {str(tmp_path / "1.tif")}
    config = TrainConfig(name="s", training_data="s", size=64, steps=2, stacks=[source])
    pair = TrainingPairs(config)[0]
    assert pair["frame"].shape == pair["target"].shape == (1, 64, 64)
    assert pair["focus"][0] in (4, 8, 12)


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-1, 5), (0, 12)])
@pytest.mark.parametrize("defocus_um", [0.0, 8.0, -16.0, 32.0])
def test_a_shift_is_measured_through_the_blur(shift: tuple[int, int], defocus_um: float) -> None:
    rng = np.random.default_rng(4)
    field = nuclei((232, 232), rng, radius_um=(4.0, 9.0), count=40) * 3000 + 100
    blurred = defocus(field, Optics(), defocus_um)
    camera = CameraModel()
    reference = camera.expose(field[16:-16, 16:-16], rng)
    moved = blurred[16 - shift[0] : 216 - shift[0], 16 - shift[1] : 216 - shift[1]]
    np.testing.assert_allclose(shift_px(reference, camera.expose(moved, rng)), shift, atol=1.5)


def test_a_stack_that_moved_sideways_is_refused(tmp_path: Path) -> None:
    write_imagej(tmp_path / "a.tif", make_stack(drift=(0, 2)))
    with pytest.raises(
        RefocusError, match=r"a\.tif: plane 0 is shifted by .* columns from plane 3"
    ):
        training_fields(StacksConfig(folder=tmp_path))


def nan(planes: Planes) -> NDArray[Any]:
    spoilt = planes.astype(np.float32)
    spoilt[2, 5, 5] = np.nan
    return spoilt


def constant(planes: Planes) -> NDArray[Any]:
    spoilt = planes.copy()
    spoilt[4] = 100
    return spoilt


@pytest.mark.parametrize(
    ("spoil", "settings", "expected"),
    [
        (lambda p: p[2:4], {}, "too few planes: 2, and 3 are needed"),
        (lambda p: p[0], {}, "too few planes: it has no z-axis"),
        (nan, {}, "plane 2 holds NaN or infinity"),
        (constant, {}, "plane 4 is constant"),
        (lambda p: p[FOCUS:], {}, "is sharpest at its end, plane 0 of 4"),
        (lambda p: p.astype(np.int32), {}, "has pixels of int32"),
        (lambda p: p, {"distances_um": [20]}, "too few planes: 7 of 4 µm reach from -12 to 12 µm"),
        (
            lambda p: p,
            {"distances_um": [1]},
            "a plane every 4 µm, so two of 'distances_um', or one",
        ),
        (lambda p: p, {"distances_um": [4, 5, 8]}, "are the same plane; leave one out"),
        (
            lambda p: p,
            {"z_step_um": None},
            "does not say how far its planes are apart; set 'z_step_um'",
        ),
        (lambda p: p, {"focus": 7}, "has planes 0 to 6, but 'focus' is 7"),
        (lambda p: p, {"held_out": 0}, "every stack is held out"),
    ],
)
def test_a_stack_that_cannot_be_used_is_named(
    tmp_path: Path,
    spoil: Callable[[Planes], NDArray[Any]],
    settings: dict[str, Any],
    expected: str,
) -> None:
    write_tiff(tmp_path / "a.tif", spoil(make_stack()))
    config = StacksConfig(**{"folder": tmp_path, "z_step_um": STEP, **settings})
    with pytest.raises(RefocusError, match=expected) as caught:
        training_fields(config)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def write_set(folder: Path, files: list[Planes], spanning: bool = False) -> None:
    """Write files, each with an OME-XML that names all of them, as Micro-Manager does.

    Each is an image, or all of them together are one.
    """
    names = [f"set_MMStack_Pos{number}.ome.tif" for number in range(len(files))]
    images = [[(n, z) for z in range(len(planes))] for n, planes in enumerate(files)]
    if spanning:
        images = [[place for image in images for place in image]]
    note = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:OWN">'
    for number, places in enumerate(images):
        data = "".join(
            f'<TiffData FirstZ="{z}" IFD="{page}" PlaneCount="1">'
            f'<UUID FileName="{names[file]}">urn:uuid:{file}</UUID></TiffData>'
            for z, (file, page) in enumerate(places)
        )
        rows, columns = files[number].shape[1:]
        note += (
            f'<Image ID="Image:{number}"><Pixels ID="Pixels:{number}" DimensionOrder="XYZCT" '
            f'Type="uint16" SizeX="{columns}" SizeY="{rows}" SizeZ="{len(places)}" SizeC="1" '
            f'SizeT="1" PhysicalSizeZ="{STEP}">{data}</Pixels></Image>'
        )
    for number, planes in enumerate(files):
        tifffile.imwrite(
            folder / names[number],
            planes,
            description=note.replace("OWN", str(number)) + "</OME>",
            metadata=None,
            photometric="minisblack",
            compression="zlib",
        )


def test_each_file_of_a_set_gives_its_own_stack(tmp_path: Path) -> None:
    written = [make_stack(seed, side=64) for seed in range(4)]
    write_set(tmp_path, written)
    for file, planes in zip(list_stacks(tmp_path), written, strict=True):
        (stack,) = read_stacks(file)
        np.testing.assert_array_equal(stack.planes, planes)
        assert stack.z_step_um == STEP
    source = StacksConfig(folder=tmp_path, held_out=0)
    trained = {Path(f.name.split(",")[0]).name for f in training_fields(source)}
    assert trained == {f"set_MMStack_Pos{number}.ome.tif" for number in (1, 2, 3)}


@pytest.mark.parametrize("lost", [False, True])
def test_a_stack_that_spans_several_files_is_refused(tmp_path: Path, lost: bool) -> None:
    write_set(tmp_path, [make_stack(seed, side=64) for seed in range(2)], spanning=True)
    if lost:
        (tmp_path / "set_MMStack_Pos1.ome.tif").unlink()
    with pytest.raises(RefocusError, match=r"Pos0.* has planes in other files, or misses some"):
        read_stacks(tmp_path / "set_MMStack_Pos0.ome.tif")


def test_a_plain_tiff_of_several_axes_without_names_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    planes = np.broadcast_to(make_stack(side=64), (2, 7, 64, 64))
    tifffile.imwrite(path, planes, photometric="minisblack")
    with pytest.raises(RefocusError, match="does not say which of its axes QQYX is z; save it as"):
        read_stacks(path)


def test_damaged_mixed_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RefocusError, match="holds no stack"):
        training_fields(StacksConfig(folder=tmp_path))
    path = tmp_path / "a.tif"
    write_tiff(path, make_stack())
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(RefocusError, match=r"a\.tif: "):
        read_stacks(path)
    with tifffile.TiffWriter(path) as tiff:
        for side in (64, 64, 32):
            tiff.write(np.ones((side, side), np.uint16), metadata=None)
    with pytest.raises(RefocusError, match="planes of mixed sizes"):
        read_stacks(path)
    folder = tmp_path / "b.zarr"
    folder.mkdir()
    (folder / "zarr.json").write_text('{"attributes": {}}')
    with pytest.raises(RefocusError, match="names no multiscale image"):
        read_stacks(folder)
