"""From evidence to verdicts, and to what is published."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.fft
import torch
from numpy.typing import NDArray
from scipy import ndimage

from refocus.configs import ModelCard, Optics
from refocus.configs.light_path import Blur
from refocus.configs.trust import Layer, Thresholds, TrustStatistics
from refocus.engine.light_path.filters import Likely
from refocus.engine.trust.evidence import NAMES, NetworkOutputs, through_of
from refocus.engine.trust.judge import Judge
from refocus.engine.trust.judgement import TILE, UNRATED, Judgement, _between, blend
from refocus.engine.trust.reblur import Reblur
from refocus.engine.trust.tiles import halved, noise_energy, octaves, over_tiles
from refocus.optics.defocus import defocus
from refocus.optics.specimens import nuclei
from refocus.optics.transfer import at_places, blur_of, places, transfer

CHANNELS = 6
DOMAIN, CORRECTION, CERTAINTY = map(NAMES.index, ("domain", "correction", "certainty"))


def statistics(known: int = len(NAMES)) -> TrustStatistics:
    """Trust what lies within the domain, and has a correction: score 1/2 at the edge, and steep."""
    weights = [[0.0, 0.0] for _ in NAMES[:known]]
    weights[DOMAIN] = [-20.0, -20.0]
    weights[CERTAINTY] = [20.0, 20.0]
    weights[CORRECTION] = [0.0, 20.0]
    return TrustStatistics(
        feature_mean=[0.0] * CHANNELS,
        feature_basis=np.eye(CHANNELS).tolist(),
        feature_radius=float(np.log1p(1.0)),
        evidence_mean=[0.0] * known,
        evidence_scale=[1.0] * known,
        layers=[Layer(weights=weights, bias=[0.0, 75.0])],
    )


def judge(inputs: int = 1, known: int = len(NAMES)) -> Judge:
    found = statistics(known)
    limits = Thresholds(
        in_focus_um=1.0,
        beyond_um=28.0,
        frame_score=0.5,
        better_score=0.5,
        tile_score=0.25,
        full_score=0.6,
        error_factor=1.0,
        calibrated_on="a test",
        sha256=found.digest(),
    )
    card = ModelCard(
        name="test",
        version="1",
        architecture="compact",
        inputs=inputs,
        optics=Optics(),
        defocus_um=(0.0, 34.0),
        training_data="none",
        licence="BSD-3-Clause",
        trust=limits,
    )
    return Judge(card, found)


def seen(side: int = 256) -> NDArray[np.float32]:
    return nuclei((side, side), np.random.default_rng(0))


def outputs(frame: NDArray[np.float32], distance_um: float, feature: float) -> NetworkOutputs:
    small = tuple(n // 16 for n in frame.shape)
    told = np.stack([np.full(small, x) for x in (distance_um, 0.5, 0.9, -0.5)]).astype(np.float32)
    error = np.full((1, *(n // 2 for n in frame.shape)), 0.01, np.float32)
    refocused = frame * np.float32(1.1) + np.float32(0.05)
    features = np.full((CHANNELS, *small), feature, np.float32)
    return NetworkOutputs(refocused, told, error, features)


@pytest.mark.parametrize(
    ("distance_um", "feature", "verdict"),
    [
        (0.5, 0.5, "in-focus"),
        (0.5, 9.0, "in-focus"),
        (8.0, 0.5, "refocused"),
        (33.0, 0.5, "refocused"),
        (8.0, 9.0, "unfamiliar"),
        (33.0, 9.0, "beyond"),
    ],
)
def test_verdicts(distance_um: float, feature: float, verdict: str) -> None:
    frame = seen()

    found = judge().judge(frame, outputs(frame, distance_um, feature))

    assert found.verdict == verdict
    assert found.tile_verdicts is not None
    assert (found.tile_verdicts == verdict).all()
    assert found.distance_um == pytest.approx(distance_um)
    assert found.positive_side == pytest.approx(0.9)
    assert found.taken == (1.0 if verdict == "refocused" else 0.0)


@pytest.mark.parametrize("level", [0.0, 1.0])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_frame_without_structure_has_no_distance(level: float, noise: float) -> None:
    frame = np.random.default_rng(0).normal(level, noise, (256, 256)).astype(np.float32)

    found = judge().judge(frame, outputs(frame, 8.0, 0.5))

    assert found.verdict == "blank"
    assert found.distance_um is found.sigma_um is found.score is None
    assert found.taken == 0


@pytest.mark.parametrize(("distance_um", "verdict"), [(8.0, "refocused"), (33.0, "beyond")])
def test_what_is_not_made_better_far_from_focus_is_beyond(distance_um: float, verdict: str) -> None:
    frame = seen()
    given = outputs(frame, distance_um, 0.5)._replace(refocused=frame)

    assert judge().judge(frame, given).verdict == verdict


def test_a_tile_is_left_alone_in_a_frame_that_is_trusted() -> None:
    frame = seen()
    given = outputs(frame, 8.0, 0.5)
    given.features[:, :4, :4] = 9.0  # one tile of 64 pixels

    found = judge().judge(frame, given)

    assert found.verdict == "refocused"
    assert found.share[0, 0] == 0
    assert found.share.sum() == found.share.size - 1


def judgement(share: NDArray[np.float32], tile_px: float = TILE) -> Judgement:
    return Judgement("refocused", 1.0, 8.0, 0.5, 1.0, 0.5, share, tile_px)


@pytest.mark.parametrize("factor", [1.0, 1.6])
def test_distrusted_tiles_are_as_captured_and_the_rest_fades_in(factor: float) -> None:
    side = round(4 * TILE / factor) - 5  # the last tiles reach beyond the frame
    captured = np.full((side, side), 1000, np.uint16)
    refocused = np.full((side, side), 2000, np.uint16)
    share = np.ones((4, 4), np.float32)
    share[1, 1] = 0
    tile = TILE / factor

    published = blend(captured, refocused, judgement(share, tile))

    inside = slice(int(np.ceil(tile)), int(2 * tile))
    assert (published[inside, inside] == 1000).all()
    assert (published[int(3 * tile) + 1 :, int(3 * tile) + 1 :] == 2000).all()
    row = published[int(1.5 * tile), int(2 * tile) :].astype(int)
    assert (np.diff(row) >= 0).all(), "the correction fades in, and does not ripple"
    assert np.abs(np.diff(row)).max() < 1000 / tile * 2


@pytest.mark.parametrize(("shape", "tile"), [((300, 600), TILE), ((517, 777), 41.3)])
def test_blocks_are_mixed_as_a_whole_frame_would_be(shape: tuple[int, int], tile: float) -> None:
    rng = np.random.default_rng(0)
    captured, refocused = rng.integers(0, 60_000, (2, *shape)).astype(np.uint16)
    tiles = tuple(int(np.ceil(side / tile)) for side in shape)
    share = rng.choice([0.0, 0.5, 1.0], tiles).astype(np.float32)
    share[:, : tiles[1] // 2] = 1  # blocks that are taken whole

    padded = np.pad(share, 1, mode="edge")
    corners = np.lib.stride_tricks.sliding_window_view(padded, (2, 2)).min((2, 3))
    places = [
        np.minimum((np.arange(side) + 0.5) / tile, most)
        for side, most in zip(shape, tiles, strict=True)
    ]
    weights = ndimage.map_coordinates(
        corners.astype(float), np.meshgrid(*places, indexing="ij"), order=1
    )
    whole = captured + weights * (refocused.astype(float) - captured)

    published = blend(captured, refocused, judgement(share, tile))

    assert published is not refocused
    np.testing.assert_allclose(published, whole, atol=0.51)
    np.testing.assert_array_equal(published[weights == 1], refocused[weights == 1])
    own = refocused.copy()
    assert blend(captured, own, judgement(share, tile), in_place=True) is own
    np.testing.assert_array_equal(own, published)


def test_weights_that_frames_share_cannot_be_written() -> None:
    _, weights = _between(64, 3, 32.0)

    with pytest.raises(ValueError, match="read-only"):
        weights[0] = 0


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_what_all_tiles_agree_on_is_not_copied(value: float) -> None:
    captured, refocused = np.zeros((64, 64), np.uint8), np.ones((64, 64), np.uint8)

    published = blend(captured, refocused, judgement(np.full((1, 1), value, np.float32)))

    assert published is (refocused if value else captured)


def test_unrated_results_are_published_as_they_are() -> None:
    captured, refocused = np.zeros((64, 64), np.uint8), np.ones((64, 64), np.uint8)

    assert blend(captured, refocused, UNRATED) is refocused


@pytest.mark.parametrize("shape", [(96, 32), (64, 160)])
@pytest.mark.parametrize("scale", [1, 2, 16])
def test_tiles_cover_every_pixel_once(shape: tuple[int, int], scale: int) -> None:
    part = np.random.default_rng(0).random(tuple(n // scale for n in shape)).astype(np.float32)
    tiles = tuple(-(-n // TILE) for n in shape)

    found = over_tiles(part, (tiles[0], tiles[1]))

    step = TILE // scale
    wanted = [
        [part[r : r + step, c : c + step].mean() for c in range(0, part.shape[1], step)]
        for r in range(0, part.shape[0], step)
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_noise_is_measured_under_a_smooth_picture() -> None:
    rng = np.random.default_rng(0)
    smooth = defocus(seen(), Optics(), 8.0)

    found = noise_energy(smooth + rng.normal(0, 0.05, smooth.shape).astype(np.float32))

    assert np.sqrt(found.mean()) == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize("distance_um", [8.0, -8.0, 20.0])
def test_the_right_distance_explains_the_captured_frame(distance_um: float) -> None:
    optics = Optics(spherical_waves=-0.5)
    sharp = seen()
    captured = defocus(sharp, optics, distance_um)
    half = [x.reshape(128, 2, 128, 2).mean((1, 3)) for x in (captured, sharp)]
    weight = np.full((4, 4), 1 / 16, np.float32)

    def unexplained(claimed_um: float) -> float:
        claims = np.full((4, 4), claimed_um, np.float32)
        left = Reblur(optics).residual(half[0], half[1], claims, weight)
        return float(np.sqrt(np.mean(left**2)) / half[0].std())

    right = unexplained(abs(distance_um))
    assert right < 0.08  # distances are tried in steps
    assert right < 0.5 * unexplained(abs(distance_um) / 3)


@pytest.mark.parametrize("side", [64, 96, 256])
@pytest.mark.parametrize("seen_in_focus", [False, True])
def test_tensors_are_blurred_again_as_arrays_are(side: int, seen_in_focus: bool) -> None:
    rng = np.random.default_rng(0)
    optics = Optics(spherical_waves=-0.5)
    captured, refocused = (defocus(seen(side), optics, um) for um in (9.0, 1.0))
    claims = rng.uniform(2, 30, (4, 4)).astype(np.float32)
    weight = rng.dirichlet(np.ones(16)).reshape(4, 4).astype(np.float32)
    reblur = Reblur(optics, seen_in_focus)

    wanted = reblur.residual(captured, refocused, claims, weight)
    parts = map(torch.from_numpy, (captured, refocused, claims, weight))
    found = reblur.residual(*parts)

    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)


OBJECTIVES = {
    "20x": Optics(spherical_waves=-0.5),
    "10x, coarse": Optics(na=0.3, pixel_size_um=0.65, emission_um=0.525),
    "60x oil": Optics(na=1.4, immersion_index=1.515, pixel_size_um=0.108, emission_um=0.525),
}


@pytest.mark.parametrize("radius_px", [6.0, -14.0])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_light_path_believed_explains_a_frame_of_any_objective(
    objective: str, radius_px: float
) -> None:
    path = blur_of(OBJECTIVES[objective], 1.0)._replace(radius=radius_px)
    in_focus = path._replace(radius=0.0)
    spectrum = scipy.fft.dctn(seen(256)[:, :192])
    fy, fx = (np.arange(n) / (2 * n) for n in spectrum.shape)
    where = places(fy[:, None], fx[None])
    sharp, captured = (
        scipy.fft.idctn(spectrum * at_places(transfer(blur), where)).astype(np.float32)
        for blur in (in_focus, path)
    )
    half = [halved(x) for x in (captured, sharp)]
    reblur = Reblur(Optics())  # of quite another instrument

    def unexplained(believed: Blur) -> float:
        through = np.stack([transfer(in_focus), transfer(believed)])
        left = reblur.residual_through(half[0], half[1], through)
        found = reblur.residual_through(*map(torch.from_numpy, (*half, through))).numpy()
        assert left.dtype == found.dtype == np.float32
        np.testing.assert_allclose(found, left, atol=1e-5)
        return float(np.std(left) / np.std(half[0] - half[1]))

    right = unexplained(path)
    assert right < 0.05
    assert right < 0.2 * unexplained(path._replace(radius=radius_px / 2))


@pytest.mark.parametrize("shape", [(96, 32), (160, 224)])
def test_a_device_measures_the_same(shape: tuple[int, int]) -> None:
    frame = seen()[: shape[0], : shape[1]]
    given = outputs(frame, 8.0, 0.5)
    path = blur_of(Optics(), 8.0)
    through = through_of(frame, Likely(path, path))

    wanted = judge(4).look(frame, given, through)
    tensors = NetworkOutputs(*map(torch.from_numpy, given))
    found = judge(4).look(torch.from_numpy(frame.copy()), tensors, torch.from_numpy(through))

    assert wanted.dtype == found.numpy().dtype == np.float32
    np.testing.assert_allclose(found.numpy(), wanted, atol=2e-5)


def test_a_model_calibrated_on_less_is_judged_by_what_it_was_calibrated_on() -> None:
    frame = seen()
    given = outputs(frame, 8.0, 0.5)
    through = through_of(frame, Likely(*[blur_of(Optics(), 8.0)] * 2))
    before = judge(4, known=CERTAINTY + 1)

    np.testing.assert_array_equal(before.look(frame, given, through), before.look(frame, given))
    assert not np.array_equal(judge(4).look(frame, given, through), before.look(frame, given))
    assert before.judge(frame, given).verdict == "refocused"


def test_octaves_say_how_coarse_a_picture_is() -> None:
    fine = np.indices((64, 64)).sum(0) % 2 * 2.0 - 1  # at half size: blocks of 2 pixels
    coarse = np.kron(np.indices((8, 8)).sum(0) % 2 * 2.0 - 1, np.ones((8, 8)))  # of 16

    found = [octaves(x.astype(np.float32), (2, 2))[:, 0, 0] for x in (fine, coarse)]

    np.testing.assert_allclose(found, [[1, 0, 0, 0], [0, 0, 0, 1]], atol=1e-6)


def test_a_light_path_that_is_hardly_known_is_a_reason_to_doubt() -> None:
    frame = seen()
    given = outputs(frame, 8.0, 0.5)
    path = blur_of(Optics(), 8.0)
    likely = (Likely(path._replace(chance=c), path._replace(radius=3.0)) for c in (1.0, 0.3))
    verdicts = [judge().judge(frame, given, one).verdict for one in likely]
    assert verdicts == ["refocused", "unfamiliar"]


@pytest.mark.parametrize("spoiled", ["features", "focus", "refocused"])
def test_evidence_that_is_not_finite_is_no_reason_to_trust(spoiled: str) -> None:
    frame = seen()
    given = outputs(frame, 8.0, 0.5)
    getattr(given, spoiled)[..., :3, :3] = np.nan

    found = judge().judge(frame, given)

    assert found.verdict == "unfamiliar"
    assert np.isfinite(found.share).all()
    counts = np.full(frame.shape, 1000, np.uint16)
    np.testing.assert_array_equal(blend(counts, counts * 2, found), counts)


def test_a_judge_that_fails_does_not_trust(caplog: pytest.LogCaptureFixture) -> None:
    frame = seen()
    given = outputs(frame, 8.0, 0.5)._replace(features=np.zeros((CHANNELS + 1, 16, 16), np.float32))
    failing = judge()

    found = [failing.judge(frame, given) for _ in range(2)]

    assert [f.verdict for f in found] == ["unfamiliar", "unfamiliar"]
    assert found[0].taken == 0
    assert sum(record.levelname == "ERROR" for record in caplog.records) == 1


def test_judging_from_several_threads() -> None:
    frames = [seen(side) for side in (96, 128, 160, 192)]
    one = judge()
    wanted = [one.judge(f, outputs(f, 8.0, 0.5)).consistency for f in frames]
    turns = [(frame, float(d)) for frame in frames for d in (2, 5, 8, 12, 20, 30)] * 4
    with ThreadPoolExecutor(6) as callers:
        list(callers.map(lambda turn: one.judge(turn[0], outputs(turn[0], turn[1], 0.5)), turns))
    assert [one.judge(f, outputs(f, 8.0, 0.5)).consistency for f in frames] == wanted
