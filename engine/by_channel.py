"""Engines of channels that have models of their own, the same for live and recorded data."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from refocus.configs import RefocusError
from refocus.engine.open import NAMES, open_engine
from refocus.engine.protocol import Engine
from refocus.engine.shipped import shipped_models
from refocus.engine.triton.address import is_address

NONE = "none"
"""Instead of a model: hand the channel on as it was captured."""


@contextmanager
def open_models(
    channels: Mapping[str, str] | None,
    engine: Engine,
    insecure: bool = False,
    threads: int | None = None,
) -> Iterator[dict[str, Engine]]:
    """Open the engine of each channel; a model that several have is opened once.

    Parameters
    ----------
    channels
        Model by channel: its name, the path of an ONNX file, or ``"none"``.
    engine
        The run's own: ``auto``, ``default``, and the name of its model, stand for it.
    insecure, threads
        As :func:`refocus.engine.open_engine` takes them.

    Raises
    ------
    RefocusError
        A model is not known or cannot be run.
    """
    of_engine = {"auto", "default", engine.info.name}
    if engine.info.card is not None:
        of_engine.add(engine.info.card.name)
    opened: dict[str, Engine] = {}
    with ExitStack() as stack:
        for channel, model in (channels or {}).items():
            if model == NONE:
                continue
            if model not in opened:
                opened[model] = (
                    engine
                    if model in of_engine
                    else _open(channel, model, stack, insecure, threads)
                )
        yield {c: opened[m] for c, m in (channels or {}).items() if m != NONE}


def _open(
    channel: str, model: str, stack: ExitStack, insecure: bool, threads: int | None
) -> Engine:
    path = shipped_models().get(model, Path(model))
    by_name = model in NAMES or is_address(model)
    if not by_name and not path.is_file():
        names = sorted(shipped_models())
        raise RefocusError(
            f"channel {channel}: no model {model!r}; give the path of an ONNX file, none, auto, or "
            f"one of {', '.join(names)}"
        )
    engine: Engine = open_engine(model if by_name else path, insecure=insecure, threads=threads)
    stack.callback(engine.close)
    return engine
