"""Which files of a run are trained on, and which held out: dealt once, and noted with the run."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from refocus.configs import RefocusError
from refocus.configs.training import Dealt, MeasuredConfig, StacksConfig, TrainConfig
from refocus.training.pairs.wells import fold_of

Source = MeasuredConfig | StacksConfig
log = logging.getLogger("refocus.training")


def folder_of(source: Source) -> Path:
    """Name the folder whose files are dealt."""
    return source.folder if isinstance(source, StacksConfig) else source.out_of_focus


def deal(files: Sequence[Path], source: Source, group: Callable[[Path], str]) -> Dealt:
    """Deal files into folds, those of a group into the same one."""
    fold = fold_of([group(f) for f in files], source.folds)
    dealt = Dealt(trained={}, held_out={})
    for file in files:
        part = dealt.held_out if fold[group(file)] == source.held_out else dealt.trained
        part[file.name] = _size(file)
    return dealt


def choose(
    files: Sequence[Path], source: Source, group: Callable[[Path], str], held_out: bool = False
) -> list[Path]:
    """Choose the files that are trained on, or those held out: as they were dealt, if they were.

    The log says which files nobody had dealt; they are neither.

    Raises
    ------
    RefocusError
        One that was dealt is missing, or another file by now.
    """
    dealt = source.dealt or deal(files, source, group)
    wanted = dealt.held_out if held_out else dealt.trained
    there, folder = {f.name: f for f in files}, folder_of(source)
    for name, size in wanted.items():
        if name not in there or _size(there[name]) != size:
            wrong = "is another file by now" if name in there else "is missing"
            what = "held out" if held_out else "trained on"
            raise RefocusError(f"{folder}: {name}, which the run {what}, {wrong}; put it back")
    if new := sorted(there.keys() - dealt.trained.keys() - dealt.held_out.keys()):
        log.warning("%s: not of the run, and left out: %s", folder, ", ".join(new))
    return [f for f in files if f.name in wanted]


def dealt_as(config: TrainConfig, before: TrainConfig) -> TrainConfig:
    """Split the data of a run as they were split before, where they are the same."""
    sources: list[Source] = [*before.measured, *before.stacks]
    known = {_key(s): {"dealt": s.dealt} for s in sources if s.dealt}
    measured = [m.model_copy(update=known.get(_key(m))) for m in config.measured]
    stacks = [s.model_copy(update=known.get(_key(s))) for s in config.stacks]
    return config.model_copy(update={"measured": measured, "stacks": stacks})


def _key(source: Source) -> tuple[Path, int, int | None]:
    return folder_of(source), source.folds, source.held_out


def _size(file: Path) -> int:
    """Count the bytes of a file, or of a folder that is a stack, but for hidden files in it."""
    files = file.rglob("[!.]*") if file.is_dir() else [file]
    return sum(f.stat().st_size for f in files if f.is_file())
