"""Train on your own z-stacks, and get the model that `--engine` takes.

    python examples/train_on_your_own_stack.py                          # on stacks made up here
    python examples/train_on_your_own_stack.py stacks/ --na 0.75 --pixel-size-um 0.325

Fifty steps show that it works; a model to work with takes 1,000 (`--steps 1000`). The same
in a shell: `refocus-train show own-stack > mine.yaml`, and `refocus-train fit --config mine.yaml`.
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import tifffile
import yaml

from refocus.configs import Optics
from refocus.configs.presets import find_config, load_train_config
from refocus.engine import open_engine
from refocus.export.to_onnx import onnx_from_checkpoint
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import defocus
from refocus.optics.specimens import nuclei
from refocus.training.fit import fit


def made_up_stacks(folder: Path, count: int = 3) -> Path:
    """Write z-stacks of simulated nuclei, seven planes 4 µm apart, as ImageJ would."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        light = nuclei((160, 160), rng, count=15, radius_um=(5.0, 7.0)) * 3000 + 20
        planes = [CameraModel().expose(defocus(light, Optics(), z), rng) for z in range(-12, 13, 4)]
        tifffile.imwrite(
            folder / f"stack{number}.tif",
            np.stack(planes),
            imagej=True,
            metadata={"axes": "ZYX", "spacing": 4.0, "unit": "um"},
        )
    return folder


def main() -> None:
    """Train, export, and refocus one plane."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stacks", type=Path, nargs="?", help="folder of z-stacks, OME or plain")
    parser.add_argument("--na", type=float, default=0.5, help="numerical aperture")
    parser.add_argument("--pixel-size-um", type=float, default=0.656)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--output", type=Path, default=Path("runs/own-stack"))
    options = parser.parse_args()

    settings = yaml.safe_load(find_config("own-stack").read_text(encoding="utf-8"))
    settings["optics"] |= {"na": options.na, "pixel_size_um": options.pixel_size_um}
    stacks = options.stacks or made_up_stacks(options.output / "stacks")
    settings["stacks"][0]["folder"] = str(stacks)
    settings |= {"steps": options.steps, "batch": 4, "size": 96}
    config = options.output / "config.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # it tells of itself
    checkpoint = fit(load_train_config(str(config)), options.output, quiet=True)
    model = checkpoint.with_suffix(".onnx")
    card = onnx_from_checkpoint(checkpoint, model)
    print(f"{model}: {card.name} {card.version}, for pixels of {card.optics.pixel_size_um} µm")

    plane = tifffile.imread(sorted(stacks.glob("*.tif*"))[0])[0]
    engine = open_engine(model)
    print(f"refocused a plane of {plane.shape}: {engine.refocus(plane).dtype}")
    engine.close()
    print(f"use it: refocus-live run --demo --engine {model}")


if __name__ == "__main__":
    main()
