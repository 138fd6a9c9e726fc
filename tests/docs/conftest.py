"""The folder that the commands of the documentation run in, with every file that they name."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from refocus.bench.plates import write_plate
from refocus.configs import Optics
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import defocus
from refocus.optics.specimens import nuclei

from ..recorded.svs import write_svs

ROOT = Path(__file__).parents[2]
PAIRS = {"out_of_focus": "in_focus", "defocus_mid": "infocus"}
WELLS = ("a01_s1", "a02_s1", "a03_s1", "a04_s1")
NAMED_YAML = re.compile(
    r"^```yaml\n# (?P<name>[\w.]+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)


def frame(seed: int, defocus_um: float, side: int = 96) -> np.ndarray:
    rng = np.random.default_rng(seed)
    light = nuclei((side, side), rng, count=10, radius_um=(4.0, 6.0)) * 3000 + 50
    exposed: np.ndarray = CameraModel().expose(defocus(light, Optics(), defocus_um), rng)
    return exposed


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory, checkpoint_file: Path, model_file: Path) -> Path:
    """Lay everything out that a reader of the documentation has, or makes up a name for."""
    folder = tmp_path_factory.mktemp("desk")
    for name in ("engine", "examples", "scripts", "configs", "constraints.txt", "Makefile"):
        os.symlink(ROOT / name, folder / name)
    _write_images(folder)
    _write_stacks(folder / "stacks")
    _write_sequences(folder)
    _write_scan(folder / "recorded.ome.zarr")
    write_plate(folder / "plate.ome.zarr", (2, 3), 1, lambda *place: frame(0, 8.0, 64)[None])
    write_svs(folder / "slide.svs", 96, 96)
    shutil.copy(checkpoint_file, folder / "model.safetensors")
    shutil.copy(model_file, folder / "model.onnx")
    _copy_demo_configuration(folder / "MMConfig.cfg")
    return folder


def _write_images(folder: Path) -> None:
    for blurred, sharp in PAIRS.items():
        for name, z in ((blurred, 8.0), (sharp, 0.0)):
            (folder / name).mkdir()
            for seed, well in enumerate(WELLS):
                Image.fromarray(frame(seed, z)).save(folder / name / f"{well}.png")
    shutil.copytree(folder / "in_focus", folder / "planes" / "infocus")
    shutil.copytree(folder / "out_of_focus", folder / "planes" / "defocus_p08um")
    shutil.copytree(folder / "out_of_focus", folder / "images")
    shutil.copytree(folder / "in_focus", folder / "dsb2018" / "520x696")


def _write_stacks(folder: Path) -> None:
    folder.mkdir()
    for seed in range(2):
        planes = np.stack([frame(seed, z, 160) for z in (-8.0, -4.0, 0.0, 4.0, 8.0)])
        metadata = {"axes": "ZYX", "spacing": 4.0, "unit": "um"}
        tifffile.imwrite(folder / f"{seed}.tif", planes, imagej=True, metadata=metadata)


def _write_sequences(folder: Path) -> None:
    """Take the sequences from the pages, where their first line names a file."""
    for page in (ROOT / "docs").glob("*.md"):
        for found in NAMED_YAML.finditer(page.read_text(encoding="utf-8")):
            (folder / found["name"]).write_text(found["text"], encoding="utf-8")
    stack = {"z_plan": {"range": 2, "step": 1}}
    (folder / "stack.yaml").write_text(yaml.safe_dump(stack), encoding="utf-8")
    rig = {"demo": True, "size": 64}
    (folder / "my_rig.yaml").write_text(yaml.safe_dump(rig), encoding="utf-8")


def _write_scan(path: Path) -> None:
    import useq

    from refocus.acquisition.microscopes.simulated import SimulatedMicroscope

    with SimulatedMicroscope(frame_shape=(64, 64), z_um=8.0) as microscope:
        plan = {"interval": 0, "loops": 2}
        microscope.core.mda.run(useq.MDASequence(time_plan=plan), output=path)


def _copy_demo_configuration(path: Path) -> None:
    adapters = pytest.importorskip("mm_test_adapters")
    text = (Path(adapters.device_adapter_path()) / "MMConfig_demo.cfg").read_text(encoding="utf-8")
    sides = "".join(f"Property,Camera,OnCameraCCD{axis}Size,384\n" for axis in "XY")
    path.write_text(text + sides, encoding="utf-8")
