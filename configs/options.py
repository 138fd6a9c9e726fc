"""Options of a command that are the fields of a model: their names, their groups, and their file.

A field's docstring explains it, in the command's help and in the file; the first sentence of the
class that brings the field is the title of its group. The options themselves are made by
:func:`refocus.configs.command.options_of`.
"""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel

WIDTH = 100


@dataclass(frozen=True)
class Option:
    """What the model does not say of a field, as part of its annotation.

    Attributes
    ----------
    metavar
        Stands for the value in the help.
    example
        A value for the file, where the key is commented out: it has no default, or only makes
        sense beside another key.
    name
        Of the option, if it is not that of the field.
    typed
        False for what only a file can say.
    """

    metavar: str | None = None
    example: Any = None
    name: str | None = None
    typed: bool = True


def option_of(model: type[BaseModel], field: str) -> Option:
    """Give what was said of a field beside its model, or an empty :class:`Option`."""
    said = model.model_fields[field].metadata
    return next((note for note in said if isinstance(note, Option)), Option())


def option_name(model: type[BaseModel], field: str) -> str:
    """Give the option of a field: ``--wait-subscribers`` for ``wait_subscribers``."""
    named = option_of(model, field).name if field in model.model_fields else None
    return named or "--" + field.replace("_", "-")


def named_option(model: type[BaseModel], place: tuple[str | int, ...]) -> tuple[str, ...]:
    """Give the option of a place, ``("--na",)`` for ``("optics", "na")``; none for a section."""
    section = section_of(model, str(place[0]))
    if section is None:
        return (option_name(model, str(place[0])),)
    return named_option(section, place[1:]) if place[1:] else ()


def section_of(model: type[BaseModel], field: str) -> type[BaseModel] | None:
    """Give the model of a field that is a section of the file; None for one with a value."""
    kind = model.model_fields[field].annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def option_places(model: type[BaseModel], *fields: str) -> list[tuple[str, ...]]:
    """Give the fields of a model that are options: ``("queue",)``, or ``("optics", "na")``."""
    places: list[tuple[str, ...]] = []
    for field in fields or tuple(model.model_fields):
        section = section_of(model, field)
        inner = option_places(section) if section else [()]
        places += [(field, *place) for place in inner if option_of(model, field).typed]
    return places


def group_of(model: type[BaseModel], field: str) -> str:
    """Give the title of a field's group."""
    bases = (base for base in reversed(model.__mro__) if issubclass(base, BaseModel))
    owner = next(base for base in bases if field in base.model_fields)
    return (owner.__doc__ or "").partition(".")[0]


def write_preset(settings: BaseModel, title: str) -> str:
    """Write a YAML file of every key, with its value in ``settings`` and what it means."""
    model = type(settings)
    rows = [(group_of(model, f), *row) for f in model.model_fields for row in _rows(settings, f)]
    column = max(len(key) for _, key, _ in rows) + 2
    lines, group = textwrap.wrap(title, WIDTH, initial_indent="# ", subsequent_indent="# "), ""
    for owner, key, text in rows:
        if group != (group := owner):
            lines += ["", f"# {group}"]
        first, *more = textwrap.wrap(text, WIDTH - column - 2)
        lines += [f"{key:{column}}# {first}", *(f"{'':{column}}# {rest}" for rest in more)]
    return "\n".join(lines) + "\n"


def _rows(settings: BaseModel, field: str) -> Iterator[tuple[str, str]]:
    """Give the line of a key, or those of a section, and what each means."""
    model, example = type(settings), option_of(type(settings), field).example
    text = (model.model_fields[field].description or "").replace("``", "")
    value = getattr(settings, field) if example is None else example
    if isinstance(value, BaseModel):
        yield f"{field}:", text
        for inner in type(value).model_fields:
            yield from ((f"  {key}", said) for key, said in _rows(value, inner))
        return
    line = yaml.safe_dump(value, default_flow_style=True, sort_keys=False).splitlines()[0]
    yield f"{'' if example is None else '# '}{field}: {line}", text
