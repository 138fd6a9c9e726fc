"""The folder of a run: who may write to it, and what is noted there of the run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from refocus.configs import RefocusError, reason_of
from refocus.configs.files import replacing
from refocus.configs.presets import load_train_config
from refocus.configs.training import TrainConfig
from refocus.training.pairs.split import Source, dealt_as

RUN, CONFIG, MODEL = "run", "config.json", "model.safetensors"


def begin(config: TrainConfig, output: Path, resume: bool) -> TrainConfig:
    """Give the run, its data split as before where it is resumed.

    Raises
    ------
    RefocusError
        There is nothing to resume from, or another run, or one that would be overwritten.
    """
    there = (output / RUN / "run.safetensors").is_file()
    if _is_checked():
        return dealt_as(config, _noted(output)) if (output / CONFIG).is_file() else config
    if resume and not there:
        raise RefocusError(f"{output / RUN}: nothing to resume from; run without --resume")
    if there and not resume:
        raise RefocusError(
            f"{output}: holds a run already; add --resume to go on with it, "
            "or name another --output"
        )
    if (output / MODEL).exists() and not resume:
        raise RefocusError(f"{output / MODEL}: is there already; name another --output")
    if not resume or not (output / CONFIG).is_file():
        return config
    before = _noted(output)
    config = dealt_as(config, before)
    free = {"workers", "name", "based_on", "version", "licence", "training_data", "stains"}
    dealt = {"__all__": {"dealt"}}
    unlike: Any = {**dict.fromkeys(free, True), "measured": dealt, "stacks": dealt}
    was, now = (of.model_dump(mode="json", exclude=unlike) for of in (before, config))
    if changed := [key for key in now if was[key] != now[key]]:
        raise RefocusError(
            f"{output / RUN}: was made with '{changed[0]}: {was[changed[0]]}', not "
            f"{now[changed[0]]!r}; resume with the same settings, or name another --output"
        )
    return config


@contextmanager
def alone(config: TrainConfig, output: Path, resume: bool) -> Iterator[None]:
    """Keep other runs out of a folder, which is made.

    Raises
    ------
    RefocusError
        Another run is in it, or as :func:`begin`.
    """
    if _is_checked():
        yield
        return
    output.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(output / ".lock", timeout=0):
            begin(config, output, resume)  # nobody has ended here in the meantime
            yield
    except Timeout as error:
        raise RefocusError(
            f"{output}: another process trains there; wait until it has ended, or name another "
            "--output"
        ) from error


def write_config(config: TrainConfig, output: Path) -> None:
    """Note a run, complete: what it was based on may change, or lie elsewhere."""
    complete = config.model_copy(update={"based_on": None})
    with replacing(output / CONFIG) as part:
        part.write_text(complete.model_dump_json(indent=2), encoding="utf-8")


def load_run(config: str, model: Path) -> TrainConfig:
    """Read a run by its path or preset name, its data split as noted beside a model that it made.

    Raises
    ------
    RefocusError
        As :func:`refocus.configs.presets.load_train_config`.
    """
    run, beside = load_train_config(config), model.with_name(CONFIG)
    with suppress(RefocusError):  # of that name there are other files
        sources: list[Source] = [*run.measured, *run.stacks]
        if beside.is_file() and not any(source.dealt for source in sources):
            return dealt_as(run, load_train_config(str(beside)))
    return run


def _is_checked() -> bool:
    """Tell whether this is another process of a run on several devices."""
    return "LOCAL_RANK" in os.environ


def _noted(output: Path) -> TrainConfig:
    try:
        return TrainConfig.model_validate_json((output / CONFIG).read_bytes())
    except (ValidationError, OSError) as error:
        raise RefocusError(
            f"{output / CONFIG}: is damaged ({reason_of(error)}); remove it to resume all the "
            "same: files are then dealt anew, and those held out may be trained on"
        ) from error
