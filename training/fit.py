"""Training, top to bottom: read it in one sitting with a file of ``configs/train`` beside it."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, Subset

from refocus.configs import ModelCard, RefocusError, reason_of
from refocus.configs.terminal import Stopped
from refocus.configs.training import TrainConfig
from refocus.engine.light_path.estimate import EstimatorWeights
from refocus.training.light_path import read_estimator
from refocus.training.network.checkpoint import build, load_weights, save_model
from refocus.training.network.losses import ImageLoss, error_loss, focus_loss
from refocus.training.network.resnet import load_imagenet
from refocus.training.network.unet import ResNet34UNet
from refocus.training.pairs.batches import TrainingBatches
from refocus.training.pairs.data import TrainingPairs, with_split
from refocus.training.pairs.stacks import held_out_fields
from refocus.training.pictures import Pictures
from refocus.training.run_folder import MODEL, RUN, alone, begin, write_config
from refocus.training.run_state import SafeCheckpointIO
from refocus.training.start import first_weights, is_exported

FROZEN_FROM = 0.67
ERROR_WEIGHT = 0.003


class Refocusing(L.LightningModule):
    """One network learning to refocus."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self.network = build(config.architecture)
        _start(self.network, config)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # no run averages over more than its last fifth, or a short one would keep its beginning
        decay = max(0.0, min(config.average, 1 - 5 / config.steps))
        # not of batch norm's statistics, which one strange batch spoils for thousands of steps, and
        # which are frozen by the time that counts
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.average.requires_grad_(False)
        self.loss = ImageLoss(config.loss, config.vgg)

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """Refocus a batch and compare."""
        frames = batch["frame"].contiguous(memory_format=torch.channels_last)
        told = batch["focus"]
        if frames.shape[1] > 1:  # filters tell it
            told = torch.full_like(told, torch.nan)
        else:  # told the truth in half of the examples, its own estimate in the others
            told = torch.where(self._places(frames)[:, None] % 2 == 0, told, torch.nan)
        output = self.network(frames, told)
        image = self.loss(output.pixels, batch["target"], batch["span"])
        focus = focus_loss(output, batch["focus"])
        error = error_loss(output, batch["target"])
        self.log_dict({"image": image, "focus": focus, "error": error}, prog_bar=True)
        loss: Tensor = image + self.config.focus_weight * focus + ERROR_WEIGHT * error
        if not torch.isfinite(loss):
            raise RefocusError(
                f"the loss became {loss.item()} at step {self.global_step}; "
                "lower 'learning_rate', or look for damaged images"
            )
        return loss

    def _places(self, frames: Tensor) -> Tensor:
        """Give each example's place in the step's batch, of which this process has a share."""
        share = torch.arange(len(frames), device=frames.device)
        return share * self.config.devices + self.global_rank

    def on_train_batch_start(self, *_: Any) -> None:
        """Freeze batch norm for the last third, to learn with what the network will run with.

        That of an exported model is a bias alone, and is frozen throughout.
        """
        first = 0.0 if is_exported(self.config.weights) else FROZEN_FROM * self.config.steps
        if self.global_step >= first:
            for layer in self.network.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    layer.eval()

    def on_before_zero_grad(self, optimizer: Any) -> None:
        """Average the weights after each step."""
        self.average.update_parameters(self.network)

    def configure_optimizers(self) -> Any:
        """AdamW, one cycle; an ImageNet encoder learns at a tenth of the rate, after a while."""
        c = self.config
        groups: list[dict[str, Any]] = [
            {"params": list(self.network.parameters()), "lr": c.learning_rate}
        ]
        if isinstance(self.network, ResNet34UNet) and c.weights == "imagenet":
            encoder = list(self.network.encoder.parameters())
            inside = {id(p) for p in encoder}
            rest = [p for p in self.network.parameters() if id(p) not in inside]
            groups = [
                {"params": rest, "lr": c.learning_rate},
                {"params": encoder, "lr": c.learning_rate / 10},
            ]
        optimizer = torch.optim.AdamW(groups, weight_decay=1e-4, betas=(0.9, 0.99))
        warm = max(1, min(200, c.steps // 10))

        def cycle(step: int) -> float:
            if step < warm:
                return 0.05 + 0.95 * step / warm
            return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - warm) / max(1, c.steps - warm)))

        def frozen_first(step: int) -> float:
            return 0.0 if step < c.freeze_steps else cycle(step)

        schedules: list[Any] = [cycle] if len(groups) == 1 else [cycle, frozen_first]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, schedules)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class TrainingData(L.LightningDataModule):
    """The examples of a run, an epoch of ``checkpoint_every`` steps at a time."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        simulated = config.simulation
        self.in_batches = simulated is not None and simulated.objectives is not None
        self.pairs: Dataset[dict[str, Tensor]]
        self.distances_um: list[float] = []
        if self.in_batches:
            self.pairs = TrainingBatches(config)
        else:
            pairs = self.pairs = TrainingPairs(config)
            self.distances_um = pairs.distances_um

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Give this epoch's examples; they depend on the step alone, so a resumed run repeats."""
        c = self.config
        # not on the epoch: a resumed run begins by repeating the number of its last one
        step = self.trainer.global_step if self.trainer else 0
        if self.in_batches:
            steps = range(step, min(step + c.checkpoint_every, c.steps))
            return DataLoader(Subset(self.pairs, steps), batch_size=None, num_workers=c.workers)
        first = step * c.batch
        last = min(first + c.checkpoint_every * c.batch, c.steps * c.batch)
        # each process takes every n-th example, in order: together they take the same steps as one
        rank = self.trainer.global_rank if self.trainer else 0
        return DataLoader(
            Subset(self.pairs, range(first + rank, last, c.devices)),
            batch_size=c.batch // c.devices,
            num_workers=c.workers,
            drop_last=True,
        )


def fit(config: TrainConfig, output: Path, resume: bool = False, quiet: bool = False) -> Path:
    """Train a network.

    Parameters
    ----------
    config
        The run, complete.
    output
        Folder for ``model.safetensors``, ``config.json``, ``run/`` (to resume from), ``logs/``
        (CSV) and ``tensorboard/``.
    resume
        Go on from ``output/run``; the result is that of a run that was never stopped.
    quiet
        No progress bar.

    Returns
    -------
    Path
        The model.

    Raises
    ------
    RefocusError
        There is nothing to resume from, or another run, the data cannot be read, the loss is no
        number, or memory ran out.
    KeyboardInterrupt, Stopped
        By Ctrl-C or SIGTERM; the second waits for the step to end.
    """
    config = with_split(begin(config, output, resume))
    L.seed_everything(config.seed, workers=True, verbose=False)
    try:
        module, examples = Refocusing(config), TrainingData(config)
        for source in config.stacks:  # a stack that cannot be judged on is told of before hours
            held_out_fields(source)
        with alone(config, output, resume), warnings.catch_warnings():
            trainer = _trainer(config, output, examples, resume, quiet)
            if trainer.is_global_zero:
                write_config(config, output)
            # Lightning advises on workers and versions; what matters is said in our own words
            warnings.filterwarnings("ignore", module=r"lightning(\..*)?$")
            trainer.fit(module, examples, ckpt_path=str(output / RUN) if resume else None)
            model = output / MODEL
            if trainer.is_global_zero:
                estimator = (
                    None if config.light_paths is None else read_estimator(config.light_paths)
                )
                card = card_of(config, examples.distances_um, estimator)
                save_model(model, module.average.module, card, estimator)
            return model
    except SystemExit as error:  # how Lightning ends, without a word, what was stopped
        raise (Stopped if isinstance(error, SIGTERMException) else KeyboardInterrupt) from error
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        raise _in_words(error, config, output) from error
    except RefocusError as error:
        # from a worker process, it comes wrapped in that process's traceback
        last = str(error).strip().splitlines()[-1]
        raise RefocusError(last.split("RefocusError: ")[-1]) from error
    except OSError as error:
        raise RefocusError(f"{error.filename or output}: {reason_of(error)}") from error


def _trainer(
    config: TrainConfig, output: Path, examples: TrainingData, resume: bool, quiet: bool
) -> L.Trainer:
    keep = ModelCheckpoint(
        dirpath=output, filename=RUN, every_n_epochs=1, save_top_k=1, enable_version_counter=False
    )
    keep.FILE_EXTENSION = ""
    part = f"resumed{len(list(output.glob('logs/resumed*'))) + 1}" if resume else ""
    board = TensorBoardLogger(output, name="tensorboard", version="")
    return L.Trainer(
        max_steps=config.steps,
        accelerator="auto",
        devices=config.devices,
        strategy="ddp" if config.devices > 1 else "auto",
        precision=config.precision,
        gradient_clip_val=1.0,
        logger=[CSVLogger(output, name="logs", version=part), board],
        callbacks=[keep, Pictures(examples.pairs, board.experiment)],
        plugins=[SafeCheckpointIO()],
        use_distributed_sampler=False,
        sync_batchnorm=config.devices > 1 and torch.cuda.is_available(),
        reload_dataloaders_every_n_epochs=1,
        enable_progress_bar=not quiet,
        enable_model_summary=not quiet,
        log_every_n_steps=min(20, config.checkpoint_every),
    )


def _in_words(error: BaseException, config: TrainConfig, output: Path) -> Exception:
    """Say in one line what PyTorch said in many; give back what is not the user's to mend."""
    text = str(error)
    memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
    if memory or "allocate memory" in text:
        side = max(config.size, config.final_size or 0)
        return RefocusError(
            f"out of memory with batch {config.batch} of {side}²; lower 'batch' or 'size'"
        )
    if "state_dict" in text:
        return RefocusError(
            f"{output / RUN}: holds another architecture than {config.architecture}"
        )
    assert isinstance(error, Exception)
    return error


def card_of(
    config: TrainConfig, measured_um: Sequence[float], estimator: EstimatorWeights | None = None
) -> ModelCard:
    """Describe the model a run makes, from measured pairs at those distances."""
    simulated = config.simulation
    objectives = simulated.objectives if simulated else None
    measured = (min(measured_um), max(measured_um)) if measured_um else (0.0, 0.0)
    return ModelCard(
        name=config.name,
        version=config.version,
        architecture=config.architecture,
        optics=simulated.optics if simulated else config.optics,
        defocus_um=simulated.defocus_um if simulated else measured,
        training_data=config.training_data,
        stains=config.stains,
        licence=config.licence,
        recipe=f"refocus-train fit --config {config.name}",
        inputs=build(config.architecture).inputs,  # type: ignore[arg-type]
        estimator_sha256="" if estimator is None else estimator.digest(),
        sampling=objectives.sampling if objectives else None,
        aperture=objectives.aperture if objectives else None,
    )


def _start(network: torch.nn.Module, config: TrainConfig) -> None:
    """Put the weights where the run starts from."""
    if config.weights == "imagenet":
        if not isinstance(network, ResNet34UNet):
            raise RefocusError("weights: imagenet needs architecture: resnet34")
        load_imagenet(network.encoder)
    elif config.weights != "random":
        load_weights(network, first_weights(Path(config.weights), network), str(config.weights))
