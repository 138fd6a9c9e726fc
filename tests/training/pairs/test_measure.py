import numpy as np
import pytest

from refocus.configs import Optics
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import defocus
from refocus.optics.specimens import nuclei
from refocus.training.pairs.measure import measure_optics


@pytest.mark.parametrize("waves", [-0.5, 0.4])
def test_finds_the_light_path_a_pair_was_taken_with(waves: float) -> None:
    rng = np.random.default_rng(5)
    optics = Optics(na=0.5, spherical_waves=waves)
    sharp = nuclei((160, 160), rng, count=14) * 3000
    camera = CameraModel()
    pair = [camera.expose(light + 50, rng) for light in (sharp, defocus(sharp, optics, 7.0))]

    found = measure_optics(pair[0], pair[1], Optics(na=0.5), near_um=8.5)

    assert found.defocus_um == pytest.approx(7.0, abs=0.7)
    assert found.spherical_waves == pytest.approx(waves, abs=0.12)
    assert found.residual < found.unaberrated
