"""What a training run is: the pydantic models behind ``configs/train/*.yaml``."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from refocus.configs.optics import BBBC006, Optics

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What every generator of random numbers takes."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Sine = Annotated[float, Field(gt=0, lt=1)]


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"[{ends[0]:g}, {ends[1]:g}] ends before it begins; turn it round")
    return ends


def _a_step(step_um: float) -> float:
    if not step_um < 100:
        raise ValueError(f"{step_um:g} µm is no step between planes; give µm, not nm")
    return step_um


def _some_weight(weights: dict[str, float]) -> dict[str, float]:
    if not any(weights.values()):
        raise ValueError("no kind has a weight; give one, or leave 'kinds' out")
    return weights


Positives = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]
Distances = Annotated[tuple[NotNegative, Positive], AfterValidator(_ordered)]
Sines = Annotated[tuple[Sine, Sine], AfterValidator(_ordered)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SpecimensConfig(_Strict):
    """A folder of sharp images, searched below, that simulated light paths look at."""

    folder: Path
    sharpest: float = Field(default=0.7, gt=0, le=1)
    """Fraction of the images that is kept, the sharpest first."""
    weight: float = Field(default=1.0, gt=0)
    """How often one of them is drawn, against ``synthetic_weight`` and other folders."""
    folds: int = Field(default=4, ge=2)
    """The wells of the images' names are dealt into so many folds."""
    held_out: int | None = Field(default=None, ge=0)
    """The fold that is not a specimen; None to use all of them."""


class InstrumentConfig(_Strict):
    """A microscope in units of the pixel and the wavelength."""

    sampling: float = Field(default=0.711, gt=0, lt=2)
    """Pixel size × NA / wavelength."""
    aperture: float = Field(default=0.5, gt=0, lt=1)
    """NA / refractive index."""
    spherical: float = Field(default=-0.5, ge=-2, le=2)
    """Spherical aberration, waves."""
    radius_px: float = Field(default=7.9, ge=0)
    """Radius of the cone of light of its measured pairs, pixels."""


class ObjectivesConfig(_Strict):
    """Light paths of every objective, simulated in batches on the device that trains.

    Takes the place of the distances, apertures and cameras of :class:`SimulationConfig`.
    """

    sampling: Positives = (0.1, 1.2)
    """Pixel size × NA / wavelength."""
    aperture: Sines = (0.07, 0.98)
    """NA / refractive index."""
    radius_px: float = Field(default=46.0, gt=1)
    """Widest blur: radius of the cone of light, pixels."""
    instrument: InstrumentConfig = InstrumentConfig()
    """The microscope of the measured pairs."""
    instrument_fraction: float = Field(default=0.25, ge=0, le=1)
    """Fraction of the light paths that are its own."""
    exact_fraction: float = Field(default=0.4, ge=0, le=1)
    """Fraction of the pairs whose filters are told the true light path."""
    near_fraction: float = Field(default=0.48, ge=0, le=1)
    """Fraction whose filters are told one nearby; those of the others are told one that is wrong,
    and half of them the true one as the next."""
    worst: int = Field(default=6, ge=1, le=6)
    """How far nearby reaches: 1 for 3 % in radius, 2 and 3 for 6, 4 and 5 for 12, 6 for 25."""
    light_paths: int = Field(default=3000, ge=1)
    """How many are drawn before training."""
    cache: Path | None = None
    """Folder that keeps them from run to run."""


class SimulationConfig(_Strict):
    """Simulated pairs: which specimens, through which optics, at which distances."""

    specimens: list[SpecimensConfig] = []
    """Folders of sharp images; none for synthetic fields alone."""
    synthetic_weight: float = Field(default=1.0, ge=0)
    """How often a specimen is synthetic, against the weights of the folders."""
    synthetic: int = Field(default=600, ge=0)
    """How many synthetic fields are drawn."""
    synthetic_size: int = Field(default=320, ge=64)
    """Side of a synthetic field, pixels."""
    kinds: Annotated[dict[str, NotNegative], AfterValidator(_some_weight)] = {
        "nuclei": 5.0,
        "filaments": 2.0,
        "membranes": 1.5,
        "beads": 1.0,
        "tissue": 1.5,
        "empty": 0.3,
    }
    """Weights of the kinds of synthetic field."""
    optics: Optics = BBBC006
    """The light path that distances are stated for."""
    na: Positives = (0.44, 0.58)
    """Range of numerical apertures."""
    spherical_waves: float = -0.5
    """Spherical aberration of the instrument, waves (docs/training.md says how it was measured)."""
    spherical_spread: float = Field(default=0.12, ge=0)
    measured_fraction: float = Field(default=0.7, ge=0, le=1)
    """Fraction of light paths with that aberration; the others have any."""
    defocus_um: Distances = (0.5, 34.0)
    """Distances from focus, both signs."""
    near_um: Distances = (3.0, 13.0)
    near_fraction: float = Field(default=0.4, ge=0, le=1)
    """Fraction of pairs in the range that autofocus misses by most often."""
    in_focus_fraction: float = Field(default=0.1, ge=0, le=1)
    tilt_fraction: float = Field(default=0.1, ge=0, le=1)
    inverted_fraction: float = Field(default=0.04, ge=0, le=1)
    eight_bit_fraction: float = Field(default=0.4, ge=0, le=1)
    foreign_fraction: float = Field(default=0.0, ge=0, le=1)
    """Fraction of pairs of phase contrast, which no PSF describes: to be left alone."""
    defects_fraction: float = Field(default=0.0, ge=0, le=1)
    """Fraction of pairs with hot pixels, and as many that are saturated."""
    zoom: Positives = (0.6, 1.9)
    peak_electrons: Positives = (150.0, 20000.0)
    psfs: int = Field(default=700, ge=1)
    """How many light paths are drawn before training."""
    objectives: ObjectivesConfig | None = None
    """Light paths of every objective instead of those of one instrument."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> "SimulationConfig":
        if self.na[1] >= self.optics.immersion_index:
            raise ValueError(
                f"'na: {list(self.na)}' reaches the index of immersion, "
                f"{self.optics.immersion_index:g}; an aperture is below it: change 'optics'"
            )
        return self


class Dealt(_Strict):
    """Which files a run trains on and which it holds out: the size of each by its name."""

    trained: dict[str, int]
    held_out: dict[str, int]


class MeasuredConfig(_Strict):
    """Measured pairs: two folders with the same file names."""

    out_of_focus: Path
    in_focus: Path
    fraction: float = Field(default=0.3, ge=0, le=1)
    """Fraction of the examples of a step."""
    folds: int = Field(default=4, ge=2)
    """The wells are dealt into so many folds."""
    held_out: int | None = Field(default=None, ge=0)
    """The fold not trained on; None to train on all of them."""
    dealt: Dealt | None = None
    """How they were dealt, as 'refocus-train fit' notes it in its config.json."""
    distance_um: float | None = Field(default=None, ge=0)
    """Distance from focus where it is known, µm."""
    side: Literal["positive", "negative"] | None = None
    """Side of focus where it is known, for a spherical aberration that is negative."""


class BBBC006Config(_Strict):
    """BBBC006v1 as ``refocus-train fetch bbbc006`` lays it out."""

    folder: Path
    """Holds ``BBBC006_v1_images_z_00`` and its sisters."""
    planes: list[int] = Field(default=[1, 5, 10], min_length=1)
    """Planes out of focus, 0 to 33, 2 µm apart."""
    target: int = Field(default=16, ge=0, le=33)
    """The plane in focus."""
    channels: list[Literal[1, 2]] = Field(default=[1, 2], min_length=1)
    """1: Hoechst (nuclei). 2: phalloidin (actin)."""
    fraction: float = Field(default=1.0, ge=0, le=1)
    """Fraction of the examples of a step."""
    folds: int = Field(default=5, ge=2)
    """The wells are dealt into so many folds; 5 is the published 4:1."""
    held_out: int | None = Field(default=0, ge=0)
    """The fold not trained on, for validation; null to train on all of them."""


class StacksConfig(_Strict):
    """Your own z-stacks: OME-TIFF, OME-Zarr or plain TIFF, one stack or several to a file."""

    folder: Path
    """Holds the files; a single file is taken too."""
    focus: Literal["measure"] | int = "measure"
    """Number of the plane in focus, from 0, or ``measure`` to take the sharpest of each stack."""
    distances_um: list[float] | None = Field(default=None, min_length=1)
    """Distances from focus to make pairs at, µm, signed; null takes every plane."""
    z_step_um: Annotated[float, Field(gt=0), AfterValidator(_a_step)] | None = None
    """Distance of neighbouring planes, µm; null reads it from the file."""
    largest_shift_px: float = Field(default=1.5, gt=0)
    """A stack with a plane shifted sideways by more is refused; by twice as much 16 µm away."""
    fraction: float = Field(default=1.0, ge=0, le=1)
    """Fraction of the examples of a step."""
    folds: int = Field(default=4, ge=2)
    """The files are dealt into so many folds."""
    held_out: int | None = Field(default=None, ge=0)
    """The fold not trained on; null to train on all files."""
    dealt: Dealt | None = None
    """How they were dealt, as 'refocus-train fit' notes it in its config.json."""


class TrainConfig(_Strict):
    """One training run, complete.

    Paths are relative to the folder that the command runs in.
    """

    name: str = Field(min_length=1)
    based_on: str | None = None
    """Another run, by its preset name or its file, which may lie beside this one: what is not given
    here is as it is there, but for the name."""
    version: str = "1"
    licence: str = "BSD-3-Clause"
    training_data: str
    """One sentence for the model card."""
    stains: tuple[str, ...] = ()
    """What the data show, a stain or a structure each, for the model card."""
    architecture: Literal["compact", "compact-told", "resnet34"] = "compact"
    light_paths: Path | None = None
    """The estimator of light paths that the model carries ('refocus-train light-paths')."""
    weights: Literal["imagenet", "random"] | Path = "random"
    """Where the network starts: ImageNet, at random, a checkpoint, an ``.onnx`` model, or one that
    ships, by its name."""
    seed: Seed = 0
    steps: int = Field(default=6000, ge=1)
    batch: int = Field(default=8, ge=1)
    """Pairs of a step, over all devices."""
    devices: int = Field(default=1, ge=1)
    """Processes that share each step (GPUs, or CPU processes where there is none)."""
    size: int = Field(default=192, ge=64, multiple_of=32)
    """Side of a pair, pixels."""
    final_size: int | None = Field(default=None, ge=64, multiple_of=32)
    """Side of a pair in the last part of the run; null keeps ``size`` throughout."""
    final_part: float = Field(default=0.5, gt=0, lt=1)
    """How much of the run that last part is."""
    learning_rate: float = Field(default=1.5e-3, gt=0)
    freeze_steps: int = Field(default=0, ge=0)
    """Steps for which the encoder is left alone (transfer learning)."""
    focus_weight: float = Field(default=0.02, gt=0)
    """How much the estimate of distance, side and aberration counts beside the picture."""
    loss: Literal["l1", "l1+ssim", "rms+ssim", "psnr+ssim", "feature", "feature+ssim"] = "l1+ssim"
    vgg: Literal["imagenet", "random"] = "random"
    """Weights of the VGG-16 of the feature loss."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    workers: int = Field(default=0, ge=0)
    checkpoint_every: int = Field(default=500, ge=1)
    average: float = Field(default=0.998, ge=0, lt=1)
    """Decay of the running average of the weights, which is what is kept."""
    optics: Optics = Optics()
    """The light path of measured pairs, for the model card; ``simulation`` brings its own."""
    simulation: SimulationConfig | None = None
    measured: list[MeasuredConfig] = []
    bbbc006: BBBC006Config | None = None
    stacks: list[StacksConfig] = []

    @model_validator(mode="after")
    def _some_data(self) -> "TrainConfig":
        sources: list[MeasuredConfig | StacksConfig | BBBC006Config] = []
        sources += [*self.measured, *self.stacks, *([self.bbbc006] if self.bbbc006 else [])]
        fractions = [source.fraction for source in sources]
        if self.simulation is None and not fractions:
            raise ValueError(
                "there is nothing to train on; give 'simulation', 'measured', 'bbbc006' or 'stacks'"
            )
        if self.simulation is None and abs(sum(fractions) - 1) > 0.001:
            raise ValueError("without 'simulation', the fractions of the data must add up to 1")
        if self.simulation is not None and sum(fractions) > 1.001:
            raise ValueError("the fractions of the measured data add up to more than 1")
        for source in sources:
            if source.held_out is not None and source.held_out >= source.folds:
                raise ValueError(f"'held_out: {source.held_out}' must be below 'folds'")
        if self.optics.na >= self.optics.immersion_index:
            raise ValueError(
                f"optics: na {self.optics.na:g} with immersion_index "
                f"{self.optics.immersion_index:g}: an aperture is below the index; water has "
                "1.333, oil 1.515"
            )
        if self.batch % self.devices:
            raise ValueError(f"batch {self.batch} cannot be shared by {self.devices} devices")
        return self

    @model_validator(mode="after")
    def _of_objectives(self) -> "TrainConfig":
        objectives = self.simulation is not None and self.simulation.objectives is not None
        if objectives != (self.architecture == "compact-told"):
            raise ValueError(
                "'simulation: objectives' and 'architecture: compact-told' go together; give both "
                "or neither"
            )
        if objectives and (self.devices > 1 or self.bbbc006 or self.stacks):
            raise ValueError(
                "'objectives' trains on one device, with 'measured' beside the simulated pairs; "
                "leave out 'devices', 'bbbc006' and 'stacks'"
            )
        return self
