"""Options of a command that are the fields of a model: their names, their groups, and their file.

A field's docstring explains it, in the command's help and in the file; the first sentence of the
class that brings the field is the title of its group. The options themselves are made by
:func:`refocus.configs.command.options_of`.
"""

import textwrap
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
    """

    metavar: str | None = None
    example: Any = None
    name: str | None = None


def option_of(model: type[BaseModel], field: str) -> Option:
    """Give what was said of a field beside its model, or an empty :class:`Option`."""
    said = model.model_fields[field].metadata
    return next((note for note in said if isinstance(note, Option)), Option())


def option_name(model: type[BaseModel], field: str) -> str:
    """Give the option of a field: ``--wait-subscribers`` for ``wait_subscribers``."""
    named = option_of(model, field).name if field in model.model_fields else None
    return named or "--" + field.replace("_", "-")


def group_of(model: type[BaseModel], field: str) -> str:
    """Give the title of a field's group."""
    bases = (base for base in reversed(model.__mro__) if issubclass(base, BaseModel))
    owner = next(base for base in bases if field in base.model_fields)
    return (owner.__doc__ or "").partition(".")[0]


def write_preset(settings: BaseModel, title: str) -> str:
    """Write a YAML file of every key, with its value in ``settings`` and what it means."""
    model, keys, texts = type(settings), [], []
    for field, info in model.model_fields.items():
        example = option_of(model, field).example
        value = getattr(settings, field) if example is None else example
        line = yaml.safe_dump(value, default_flow_style=True, sort_keys=False).splitlines()[0]
        keys.append(f"{'' if example is None else '# '}{field}: {line}")
        texts.append((info.description or "").replace("``", ""))
    column = max(map(len, keys)) + 2
    lines, group = textwrap.wrap(title, WIDTH, initial_indent="# ", subsequent_indent="# "), ""
    for field, key, text in zip(model.model_fields, keys, texts, strict=True):
        if group != (group := group_of(model, field)):
            lines += ["", f"# {group}"]
        first, *more = textwrap.wrap(text, WIDTH - column - 2)
        lines += [f"{key:{column}}# {first}", *(f"{'':{column}}# {rest}" for rest in more)]
    return "\n".join(lines) + "\n"
