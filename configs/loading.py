"""YAML to pydantic, with the file, the line and the allowed values in every error."""

import codecs
import difflib
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from refocus.configs.errors import RefocusError

Model = TypeVar("Model", bound=BaseModel)
MOST_BYTES, MOST_VALUES, MOST_DIGITS = 4_000_000, 500_000, 1000
"""Of a file of settings, or a sequence: aliases count for what they stand for."""
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""How a file begins that Windows PowerShell wrote with ``>``."""
Place = tuple[str | int, ...]
"""Where a value is: ``("simulation", "zoom", 0)``."""


@dataclass(frozen=True)
class Settings:
    """What a file says, and where.

    Attributes
    ----------
    path
        The file.
    values
        Its content.
    lines
        Line of every key and item.
    """

    path: Path
    values: dict[str, Any]
    lines: Mapping[Place, int]

    def where(self, place: Place) -> str:
        """Name the file and the line of a place, or of the nearest one around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return f"{self.path}, line {self.lines[place]}" if place else f"{self.path}"


def read_settings(path: Path, model: type[BaseModel], example: str = "seed: 0") -> Settings:
    """Read a YAML file whose keys are those of a model.

    Parameters
    ----------
    path
        The file; an empty one gives no values.
    model
        Says which keys are allowed, at every level.
    example
        A line to show where the file holds no keys at all.

    Raises
    ------
    RefocusError
        The file cannot be read, is no YAML, or has a key that is unknown or given twice.
    """
    root, loaded = read_yaml(path)
    if root is None:
        return Settings(path, {}, {})
    if not isinstance(root, yaml.MappingNode) or not isinstance(loaded, dict):
        raise RefocusError(f"{path}, line 1: expected lines of 'key: value', such as '{example}'")
    lines: dict[Place, int] = {}
    _walk(path, root, model, (), lines)
    return Settings(path, loaded, lines)


def read_yaml(path: Path, kind: str = "a YAML file") -> tuple[yaml.Node | None, Any]:
    """Read YAML that says no more than its size would let one think.

    Parameters
    ----------
    path
        The file.
    kind
        What it should be, for the message.

    Returns
    -------
    root, content
        The tree with its lines, and what it says.

    Raises
    ------
    RefocusError
        It cannot be read, is too large, is no YAML, or grows by its aliases.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        text = data.decode("utf-16" if data.startswith(UTF_16) else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise RefocusError(f"{path}: cannot be read: {reason}; give {kind}") from error
    if len(data) > MOST_BYTES:
        raise RefocusError(f"{path}: larger than {MOST_BYTES / 1e6:g} MB; give {kind}")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_growth(path, root)
        return root, yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise RefocusError(f"{path}{line}: not YAML: {problem}; mend this line") from error


def _refuse_growth(path: Path, root: yaml.Node | None) -> None:
    """Refuse aliases that a few lines of make a memory full."""
    sizes: dict[int, int] = {}  # 0 while the parts of a node are being counted

    def size(node: yaml.Node) -> int:
        known = sizes.get(id(node))
        if known is None:
            sizes[id(node)] = 0
            parts = [] if isinstance(node, yaml.ScalarNode) else list(node.value)
            if isinstance(node, yaml.MappingNode):
                parts = [part for pair in parts for part in pair]
            elif len(node.value) > MOST_DIGITS and node.tag in NUMBERS:
                _refuse_node(path, node, "a number of too many digits; write a shorter one")
            known = sizes[id(node)] = 1 + sum(map(size, parts))
        elif known == 0:
            _refuse_node(path, node, "contains itself through an alias; write it out")
        if known > MOST_VALUES:
            _refuse_node(path, node, f"makes more than {MOST_VALUES} values; write less")
        return known

    if root is not None:
        size(root)


def _refuse_node(path: Path, node: yaml.Node, problem: str) -> None:
    raise RefocusError(f"{path}, line {node.start_mark.line + 1}: {problem}")


def load(path: Path, model: type[Model], example: str = "seed: 0") -> Model:
    """Read a YAML file into a model.

    Raises
    ------
    RefocusError
        As :func:`read_settings`, or a value is wrong or missing.
    """
    settings = read_settings(path, model, example)
    return check(model, settings.values, lambda place: (settings.where(place), place))


def check(
    model: type[Model],
    values: Mapping[str, Any],
    speak: Callable[[Place], tuple[str, Place]] = lambda place: ("", place),
) -> Model:
    """Make a model of values, or complain in one line.

    Parameters
    ----------
    model
        What they are for.
    values
        By key.
    speak
        Says where a value came from, if that helps, and what it is called there.

    Raises
    ------
    RefocusError
        A value is wrong or missing, or they do not fit together.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where, name = speak(tuple(first["loc"]))
        complaint = describe(first["msg"], name, first["input"])
        raise RefocusError(f"{where}: {complaint}" if where else complaint) from error


def describe(message: str, place: Place, value: Any) -> str:
    """Word pydantic's complaint as ``key: problem, got value``."""
    problem = message.removeprefix("Value error, ")
    key = ".".join(str(p) for p in place if "[" not in str(p))
    if message == "Field required":
        return f"key '{key}' is missing; add it"
    if message != problem:  # ours, and complete
        return f"{key}: {problem}" if key else problem
    return f"{key}: {problem[0].lower()}{problem[1:]}, got {value!r}"


def _walk(
    path: Path,
    node: yaml.Node,
    model: type[BaseModel] | None,
    place: Place,
    lines: dict[Place, int],
) -> None:
    """Note the line of everything below a node, and refuse keys that its model does not have."""
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            lines[(*place, i)] = item.start_mark.line + 1
            _walk(path, item, model, (*place, i), lines)
    if not isinstance(node, yaml.MappingNode):
        return
    for key_node, value in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        here = (*place, key)
        if model is not None and key not in model.model_fields:
            _refuse(f"{path}, line {line}", key, model)
        if here in lines:
            raise RefocusError(
                f"{path}, line {line}: key '{key}' was already given on line {lines[here]}; "
                "keep one"
            )
        lines[here] = line
        below = _model_in(model.model_fields[key].annotation) if model else None
        _walk(path, value, below, here, lines)


def _refuse(where: str, key: str, model: type[BaseModel]) -> None:
    allowed = list(model.model_fields)
    near = difflib.get_close_matches(key, allowed, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    for section, field in model.model_fields.items():
        below = _model_in(field.annotation)
        if below is not None and key in below.model_fields:
            hint = f"it belongs below '{section}:'; "
    raise RefocusError(f"{where}: unknown key '{key}'; {hint}allowed: {', '.join(allowed)}")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Find the model in ``Model``, ``Model | None`` or ``list[Model]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, list, tuple):
        for part in get_args(annotation):
            if (found := _model_in(part)) is not None:
                return found
    return None
