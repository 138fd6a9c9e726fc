"""Use a model in a script of your own: pixels in, refocused pixels out.

python examples/use_a_model.py                           # a frame made up here
python examples/use_a_model.py image.tif --model mine.onnx --output refocused.tif
"""

import argparse
from pathlib import Path

import numpy as np
import tifffile

from refocus.configs import Optics
from refocus.engine import open_engine
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import defocus
from refocus.optics.images import read_image
from refocus.optics.specimens import nuclei


def made_up_frame() -> np.ndarray:
    """Give nuclei, 8 µm out of focus, as a camera takes them."""
    rng = np.random.default_rng(0)
    light = nuclei((256, 256), rng, count=20, radius_um=(5.0, 7.0)) * 3000 + 20
    return CameraModel().expose(defocus(light, Optics(spherical_waves=-0.5), 8.0), rng)


def main() -> None:
    """Refocus one image."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("image", type=Path, nargs="?", help="TIFF or PNG, 8 or 16 bit, grey")
    parser.add_argument("--model", default="auto", help="an engine, or an ONNX model")
    parser.add_argument("--output", type=Path, default=Path("refocused.tif"))
    options = parser.parse_args()
    frame = read_image(options.image) if options.image else made_up_frame()
    engine = open_engine(options.model)
    refocused = engine.refocus(frame)  # same shape and dtype; frame is not changed
    engine.close()
    tifffile.imwrite(options.output, refocused)
    card = engine.info.card
    print(f"{engine.info.name} {card.name if card else ''} on {engine.info.device}")
    print(f"contrast {frame.std():.0f} → {refocused.std():.0f}, wrote {options.output}")


if __name__ == "__main__":
    main()
