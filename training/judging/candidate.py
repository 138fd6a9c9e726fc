"""A model that is evaluated: behind the pipeline's own path from frame to result, with a clock."""

import time
from pathlib import Path
from typing import NamedTuple

from refocus.configs import ModelCard, Optics, RefocusError
from refocus.configs.trust import Verdict
from refocus.engine.protocol import UNKNOWN, Engine, Frame, LightPath
from refocus.engine.refocuser import Refocuser
from refocus.engine.trust.judgement import blend
from refocus.optics.transfer import light_path_of


class Result(NamedTuple):
    """What became of a frame.

    Attributes
    ----------
    whole
        All that the network made of it.
    published
        What a run publishes of that by default.
    verdict
        On it.
    """

    whole: Frame
    published: Frame
    verdict: Verdict


class Candidate:
    """Refocuses frames of counts, and keeps the time.

    Parameters
    ----------
    engine
        With a card.
    light_path
        What is known of that of the frames; without a pixel size, it is the model's own.
    """

    def __init__(self, engine: Engine, light_path: LightPath = UNKNOWN) -> None:
        assert engine.info.card is not None
        self.card: ModelCard = engine.info.card
        self._refocuser = Refocuser(engine, on_distrust="refocused")
        self._light_path = light_path
        self._seconds = self._megapixels = 0.0
        self._seen: set[tuple[int, ...]] = set()
        self._alone = 0

    def judged(self, frame: Frame, run: str) -> Result:
        """Refocus and judge ``(H, W)``, ``uint8`` or ``uint16``.

        Frames of one run, by its name, tell each other how they are blurred.
        """
        started = time.perf_counter()
        done = self._refocuser.refocus(frame, run, self._light_path)
        if frame.shape in self._seen:  # the first of a size warms up
            self._seconds += time.perf_counter() - started
            self._megapixels += frame.size / 1e6
        self._seen.add(frame.shape)
        published = blend(frame, done.pixels, done.judgement)
        return Result(done.pixels, published, done.judgement.verdict)

    def told(self, frame: Frame, optics: Optics, distance_um: float) -> Frame | None:
        """Give all that it makes of a frame when told its light path; None where it cannot be."""
        if self.card.inputs == 1:
            return None
        path = light_path_of(optics, distance_um)
        return self._refocuser.refocus(frame, light_path=path).pixels

    def __call__(self, frame: Frame) -> Frame:
        """Give all that the network makes of a frame, which is a run of its own."""
        self._alone += 1
        return self.judged(frame, f"alone {self._alone}").whole

    @property
    def seconds_per_megapixel(self) -> float | None:
        """Mean time of a megapixel, judging included; None before a second frame of one size."""
        return self._seconds / self._megapixels if self._megapixels else None


def open_candidate(path: Path, light_path: LightPath = UNKNOWN) -> Candidate:
    """Open a ``.safetensors`` checkpoint or a ``.onnx`` model, to be computed in FP32.

    Raises
    ------
    RefocusError
        It is missing, damaged, neither of both, or of another architecture than its card says.
    """
    if path.suffix == ".onnx":
        from refocus.engine.openvino import OpenVinoEngine

        return Candidate(OpenVinoEngine(path, precision="f32"), light_path)
    if path.suffix == ".safetensors":
        import torch

        from refocus.training.network.checkpoint_engine import CheckpointEngine

        device = "cuda" if torch.cuda.is_available() else "cpu"
        return Candidate(CheckpointEngine(path, device), light_path)
    raise RefocusError(f"{path}: give a .safetensors checkpoint or a .onnx model")
