"""Light: what defocus, the camera, the metrics and the file reader must hold to."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from refocus.configs import Optics, RefocusError
from refocus.optics.camera import CameraModel, within_range
from refocus.optics.defocus import convolve, defocus
from refocus.optics.focus import tenengrad
from refocus.optics.images import list_images, read_image
from refocus.optics.metrics import gtn, psnr, ssim
from refocus.optics.normalise import brightness
from refocus.optics.psf import NODES, blur_radius_um, default_size, psf, pupil_nodes
from refocus.optics.specimens import BRIGHTEST, GENERATORS, nuclei

WATER = Optics(na=0.8, immersion_index=1.33, pixel_size_um=0.1)


@pytest.mark.parametrize("defocus_um", [0.0, 0.5, -4.0, 8.0, 32.0])
@pytest.mark.parametrize("optics", [Optics(), Optics(na=0.3, bandwidth_um=0.0)])
def test_a_psf_keeps_its_light_and_its_centre(optics: Optics, defocus_um: float) -> None:
    kernel = psf(optics, defocus_um)
    assert kernel.dtype == np.float32
    assert kernel.shape[0] % 2 == 1
    assert kernel.sum(dtype=np.float64) == pytest.approx(1.0, abs=1e-5)
    assert kernel.min() >= 0
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-7)
    np.testing.assert_allclose(kernel, kernel.T, atol=1e-7)


@pytest.mark.parametrize(("optics", "distances"), [(Optics(), (8, 16, 32)), (WATER, (4, 6))])
def test_the_blur_is_as_wide_as_the_cone_of_light(
    optics: Optics, distances: tuple[float, ...]
) -> None:
    for distance in distances:
        kernel = psf(optics, distance)
        half = kernel.shape[0] // 2
        y, x = np.mgrid[-half : half + 1, -half : half + 1] * optics.pixel_size_um
        # a uniform disc of radius R has a mean squared radius of R²/2
        rms = np.sqrt((kernel * (x**2 + y**2)).sum() * 2)
        assert rms == pytest.approx(blur_radius_um(optics, distance), rel=0.15)
        # the scalar model without apodisation puts all but a few percent inside
        inside = kernel[np.hypot(x, y) <= 1.1 * blur_radius_um(optics, distance)].sum()
        assert inside > 0.93


def test_both_sides_of_focus_differ_by_spherical_aberration_alone() -> None:
    plain, aberrated = Optics(), Optics(spherical_waves=-0.5)
    np.testing.assert_allclose(psf(plain, 6.0), psf(plain, -6.0), atol=1e-7)
    difference = np.abs(psf(aberrated, 6.0) - psf(aberrated, -6.0)).sum()
    assert difference > 0.1


def test_depth_below_the_cover_slip_aberrates() -> None:
    deep = Optics(immersion_index=1.515, na=1.2, pixel_size_um=0.1, depth_um=10.0)
    shallow = deep.model_copy(update={"depth_um": 0.0})
    assert psf(deep, 0.0, 61).max() < 0.7 * psf(shallow, 0.0, 61).max()


@pytest.mark.parametrize("panels", [1, 7, 300])
def test_the_pupil_is_asked_often_enough_for_its_fastest_phase(panels: int) -> None:
    fastest = panels * NODES  # radians across it, which is what psf() asks for
    rho, weights = pupil_nodes(panels)
    found = [weights @ np.cos(phase * rho) for phase in (1e-9, 0.3 * fastest, fastest)]
    exact = [np.sin(phase) / phase for phase in (1e-9, 0.3 * fastest, fastest)]
    np.testing.assert_allclose(found, exact, atol=1e-12)


def test_an_even_psf_is_refused() -> None:
    with pytest.raises(ValueError, match="must be odd"):
        psf(Optics(), 3.0, 12)


@pytest.mark.parametrize("distance", [2.0, -8.0, 20.0])
def test_defocus_moves_light_and_keeps_it(distance: float) -> None:
    specimen = np.zeros((141, 120), np.float32)
    specimen[60:80, 50:70] = 100.0
    blurred = defocus(specimen, Optics(), distance)
    assert blurred.shape == specimen.shape
    assert blurred.sum(dtype=np.float64) == pytest.approx(specimen.sum(), rel=1e-3)
    flat = defocus(np.full((50, 60), 7.0), Optics(), distance)
    np.testing.assert_allclose(flat, 7.0, rtol=1e-4)
    assert tenengrad(blurred) < tenengrad(specimen)


def test_in_focus_is_left_alone_and_convolution_is_centred() -> None:
    image = np.random.default_rng(0).random((33, 47)).astype(np.float32)
    same = defocus(image, Optics(), 0.0)
    np.testing.assert_array_equal(same, image)
    assert same is not image
    kernel = np.zeros((5, 5), np.float32)
    kernel[2, 2] = 1.0
    np.testing.assert_allclose(convolve(image, kernel), image, atol=1e-5)
    assert default_size(Optics(), 10.0) % 2 == 1


@pytest.mark.parametrize("mean", [5.0, 200.0, 20000.0])
def test_a_camera_adds_shot_and_read_noise_and_no_more(mean: float) -> None:
    camera = CameraModel(offset=100, electrons_per_count=0.5, read_noise_e=3.0)
    frame = camera.expose(np.full((300, 300), mean), np.random.default_rng(0)).astype(float)
    charge = (frame - 100) * 0.5
    assert charge.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean + 9) / 300)
    # rounding to a count adds a twelfth of it squared
    assert charge.var() == pytest.approx(mean + 9 + 0.25 / 12, rel=0.03)


@pytest.mark.parametrize(
    ("bits", "dtype", "top"), [(8, np.uint8, 255), (12, np.uint16, 4095), (16, np.uint16, 65535)]
)
def test_a_camera_saturates_at_its_bits(bits: int, dtype: type[np.generic], top: int) -> None:
    camera = CameraModel(bit_depth=bits)
    frame = camera.digitise(np.array([[-1e6, 0.0], [1.0, 1e9]]))
    assert frame.dtype == dtype
    assert frame.tolist() == [[0, 100], [102, top]]


@pytest.mark.parametrize(
    ("made", "captured", "bits", "given_back"),
    [
        (4095, 4000, 12, 4095),
        (5000, 4000, 12, 4095),
        (5000, 4096, 12, 5000),  # of more bits than is said
        (5000, 4000, 16, 5000),
        (5000, 4000, None, 5000),
    ],
)
def test_a_result_is_copied_only_where_it_is_beyond_the_range(
    made: int, captured: int, bits: int | None, given_back: int
) -> None:
    result, frame = (np.array([[0, top]], np.uint16) for top in (made, captured))
    kept = within_range(result, frame, bits)
    assert kept.tolist() == [[0, given_back]]
    assert (kept is result) == (made == given_back)
    assert result[0, 1] == made


@given(gain=st.integers(1, 12), offset=st.integers(0, 5000), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_brightness_follows_gain_and_offset(gain: int, offset: int, seed: int) -> None:
    frame = np.random.default_rng(seed).integers(0, 4000, (70, 90)).astype(np.uint16)
    changed = (frame * gain + offset).astype(np.uint16)
    plain, other = brightness(frame), brightness(changed)
    assert other == (plain.offset * gain + offset, plain.scale * gain)
    np.testing.assert_allclose(other.apply(changed), plain.apply(frame), atol=1e-5)
    np.testing.assert_array_equal(other.undo(other.apply(changed), changed.dtype), changed)


def test_brightness_of_an_empty_frame() -> None:
    flat = np.full((40, 40), 9, np.uint8)
    assert brightness(flat) == (9.0, 1.0)
    spot = flat.copy()
    spot[5, 5] = 200
    assert brightness(spot) == (9.0, 191.0)


def test_metrics_are_those_of_scikit_image() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 60000, (64, 80)).astype(np.uint16)
    frame = np.clip(truth + rng.normal(0, 3000, truth.shape), 0, 65535).astype(np.uint16)
    wanted, given_ = gtn(truth, frame)
    low, high = np.percentile(truth, (0.1, 99.9))
    np.testing.assert_allclose(given_, np.clip((frame - low) / (high - low), 0, 1))
    assert (wanted.min(), wanted.max()) == (0, 1)
    assert psnr(wanted, given_) == peak_signal_noise_ratio(wanted, given_, data_range=1.0)
    assert ssim(wanted, given_) == structural_similarity(wanted, given_, data_range=1.0)
    assert psnr(wanted, wanted) == float("inf")
    assert ssim(wanted, wanted) == pytest.approx(1.0)


@pytest.mark.parametrize("scale", [1.0, 1e-5, 1e3])
def test_metrics_do_not_depend_on_the_unit(scale: float) -> None:
    rng = np.random.default_rng(3)
    truth = rng.uniform(0, 60000, (64, 80))
    frame = truth + rng.normal(0, 3000, truth.shape)
    assert psnr(*gtn(truth * scale, frame * scale)) == pytest.approx(psnr(*gtn(truth, frame)))
    assert np.isfinite(gtn(np.zeros((8, 8)), np.ones((8, 8)))).all()


def test_sharpness_falls_with_distance_and_ignores_brightness() -> None:
    field = nuclei((160, 160), np.random.default_rng(0), radius_um=(5.0, 8.0), count=12)
    sharpness = [tenengrad(defocus(field, Optics(), z)) for z in (0, 3, 6, 12)]
    assert sharpness == sorted(sharpness, reverse=True)
    assert tenengrad(field * 7 + 100) == pytest.approx(tenengrad(field), rel=1e-3)
    assert tenengrad(np.ones((20, 20))) == 0.0


@pytest.mark.parametrize("kind", sorted(GENERATORS))
def test_specimens_are_fields_of_light(kind: str) -> None:
    first, again = (GENERATORS[kind]((64, 96), np.random.default_rng(5)) for _ in range(2))
    assert (first.shape, first.dtype) == ((64, 96), np.float32)
    np.testing.assert_array_equal(first, again)
    for seed in range(20):  # a few dots on nothing, too
        field = GENERATORS[kind]((64, 96), np.random.default_rng(seed))
        assert 0 <= field.max() <= BRIGHTEST


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", ["png", "tif", "lzw.tif"])
def test_images_are_read_as_stored(tmp_path: Path, dtype: type[np.generic], suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (20, 30)).astype(dtype)
    path = tmp_path / f"a.{suffix}"
    if suffix == "png":
        Image.fromarray(pixels).save(path)
    else:
        tifffile.imwrite(path, pixels, compression="lzw" if "lzw" in suffix else None)
    read = read_image(path)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, pixels)


def write_float(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((8, 8), np.float32))


def write_colour(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((8, 8, 3), np.uint8), photometric="rgb")


def write_stack(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((4, 8, 8), np.uint8), photometric="minisblack")


def write_truncated(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((64, 64), np.uint16))
    path.write_bytes(path.read_bytes()[:500])


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_text("hello"), "not a readable image"),
        (lambda path: path.write_bytes(b""), "not a readable image"),
        (write_truncated, "not a readable image"),
        (write_float, "pixels of float32, but uint8 or uint16"),
        (write_colour, r"shape \(8, 8, 3\), but a monochrome image"),
        (write_stack, r"shape \(4, 8, 8\), but a monochrome image"),
    ],
)
def test_an_unreadable_image_is_named(tmp_path: Path, write: object, expected: str) -> None:
    path = tmp_path / "bad.tif"
    assert callable(write)
    write(path)
    with pytest.raises(RefocusError, match=expected) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_colours_of_a_palette_are_no_intensities(tmp_path: Path) -> None:
    Image.new("P", (8, 8), 3).save(tmp_path / "bad.png")
    with pytest.raises(RefocusError, match="has a colour palette"):
        read_image(tmp_path / "bad.png")


def test_a_folder_lists_its_images_in_order(tmp_path: Path) -> None:
    with pytest.raises(RefocusError, match="holds no image"):
        list_images(tmp_path)
    with pytest.raises(RefocusError, match="no such folder"):
        list_images(tmp_path / "none")
    for name in ("b.TIF", "a.png", "notes.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in list_images(tmp_path)] == ["a.png", "b.TIF"]
