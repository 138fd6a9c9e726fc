"""What all our commands do alike: their options, colours, errors, and exit statuses.

A command module makes its ``app`` with :func:`command_app`, and its ``main`` hands the app to
:func:`run_command`. Colours and progress bars are for terminals: elsewhere, or with ``NO_COLOR``
set, there are none.
"""

import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import reduce, wraps
from importlib.metadata import version
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.text import Text

from refocus.configs import reason_of
from refocus.configs.errors import RefocusError
from refocus.configs.files import named
from refocus.configs.loading import Model, check
from refocus.configs.options import (
    group_of,
    named_option,
    option_name,
    option_of,
    option_places,
    section_of,
)

OVER_BOUND, BAD_INPUT, INTERRUPTED, PIPE_CLOSED, TERMINATED = 1, 2, 130, 141, 143

TRAINING = (
    "torch",
    "lightning",
    "onnxscript",
    "safetensors",
    "torchmetrics",
    "tensorboard",
    "pooch",
)
"""What the extra ``[train]`` installs: a microscope PC does without."""

JsonOption = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON, for scripts.")]

ANY_ORDER = inspect.Parameter.KEYWORD_ONLY

_UsageError: type[Exception] = typer.BadParameter.mro()[1]  # of whichever click Typer carries


def command_app(name: str, help: str | None = None, **settings: Any) -> typer.Typer:
    """Make the app of a command: ``-h``, shell completion, and help in colours."""
    return typer.Typer(
        name=name,
        help=help,
        add_completion=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,
    )


def click_command(app: typer.Typer) -> Any:
    """Give what a command's app runs: Typer's own command, and ``--version``, which it lacks."""

    def say(asked: bool) -> None:
        if asked:
            print(f"{app.info.name} {version('refocus-live')}")
            raise typer.Exit

    bearer = typer.Typer(add_completion=False)

    @bearer.command()
    def bear(
        version: Annotated[
            bool,
            typer.Option(
                "--version",
                callback=say,
                is_eager=True,
                expose_value=False,
                help="Print the version, and end.",
            ),
        ] = False,
    ) -> None: ...

    for one in app.registered_commands:
        assert one.callback is not None
        for parameter in inspect.signature(one.callback).parameters.values():
            _take_path(parameter.annotation)
    command: Any = typer.main.get_command(app)
    command.params.append(typer.main.get_command(bearer).params[0])
    return command


def _take_path(annotation: Any) -> None:
    """Have a parameter that is a path refuse an empty one, and know what ``~`` is."""
    kind, *said = get_args(annotation) or (annotation,)
    inner = {one for outer in (kind, *get_args(kind)) for one in (outer, *get_args(outer))}
    for info in said:
        if Path in inner and getattr(info, "path_type", "") is None:  # else its model sees to it
            info.parser = _path


def _path(given: str) -> Path:
    if not given:  # as of a variable that is not set: it would be the folder here
        raise typer.BadParameter("name a file or a folder; got ''.")
    return named(given)


def options_of(
    model: type[BaseModel], *fields: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each field of a model, before the command's own parameters.

    Parameters
    ----------
    model
        Says names, types, defaults and help; see :mod:`refocus.configs.options`.
    fields
        Those to take, whole sections among them; by default all, in groups.

    Returns
    -------
    decorator
        Of a function whose first parameter takes what was given on the command line, by field.
    """
    chosen = option_places(model, *fields)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(context: typer.Context, **values: Any) -> None:
            given: dict[str, Any] = {}
            for *section, field in chosen:
                value, source = values.pop(field), context.get_parameter_source(field)
                if source is not None and source.name == "COMMANDLINE":
                    reduce(lambda inner, key: inner.setdefault(key, {}), section, given)[field] = (
                        value
                    )
            command(given, **values)

        _, *own = inspect.signature(command).parameters.values()
        context = inspect.Parameter("context", ANY_ORDER, annotation=typer.Context)
        options = [_parameter(model, p, None if fields else group_of(model, p[0])) for p in chosen]
        own = [parameter.replace(kind=ANY_ORDER) for parameter in own]
        run.__signature__ = inspect.Signature([context, *options, *own])  # type: ignore[attr-defined]
        return run

    return decorate


def check_options(model: type[Model], given: Mapping[str, Any]) -> Model:
    """Make a model of what :func:`options_of` gives, or complain of an option by its name.

    Raises
    ------
    RefocusError
        A value is wrong, or they do not fit together.
    """
    return check(model, given, lambda place: ("", named_option(model, place) if place else ()))


def _parameter(
    model: type[BaseModel], place: tuple[str, ...], group: str | None
) -> inspect.Parameter:
    *sections, field = place
    for section in sections:
        model = section_of(model, section) or model
    info, said = model.model_fields[field], option_of(model, field)
    kind: Any = info.annotation
    if NoneType in get_args(kind):
        kind = get_args(kind)[0]
    kind = {Literal: str, tuple: str, dict: list[str]}.get(get_origin(kind), kind)
    help = re.sub("``(.+?)``", r"[b]\1[/b]", " ".join((info.description or "").split()))
    if kind == list[str]:
        help += " Repeat it for each."
    if kind is not bool and info.default is not None:
        help += rf" [dim]\[default: {info.default}][/dim]"  # Typer would begin a line for it
    option = typer.Option(
        option_name(model, field),
        metavar="" if kind is bool else said.metavar,
        help=help,
        show_default=False,
        rich_help_panel=group,
        path_type=str,  # of an empty one a Path would make the folder here
    )
    return inspect.Parameter(
        field,
        ANY_ORDER,
        default=info.default,
        annotation=Annotated[kind | None, option],
    )


def make_console(stderr: bool = False) -> Console:
    """Make a console that shows text as it is: names of files may hold what is markup elsewhere."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)


def wrote(path: Path) -> Text:
    """Say that something was written."""
    return Text.assemble(("wrote", "dim"), "  ", printable(str(path)))


def examples(*lines: str) -> str:
    """Lay out the examples that end a command's help."""
    title = "Example" if len(lines) == 1 else "Examples"
    return "\n\n".join((f"[bold]{title}[/bold]", *lines))


def run_command(
    app: typer.Typer,
    interrupted: str,
    endings: Mapping[type[BaseException], tuple[str, int]] | None = None,
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a command, and turn what goes wrong into one line and an exit status.

    Parameters
    ----------
    app
        Made by :func:`command_app`.
    interrupted
        What to say after Ctrl-C.
    endings
        Further exceptions that end it, each with what to say and its status.
    arguments
        Instead of those of the process.

    Returns
    -------
    int
        0; 1 where a comparison failed or a run is incomplete; 2 for bad input; 130 after Ctrl-C;
        141 where nobody reads the output any more; 143 after SIGTERM.
    """
    name = str(app.info.name)
    stopped = (interrupted, INTERRUPTED)
    endings = {KeyboardInterrupt: stopped, typer.Abort: stopped, **(endings or {})}
    foreseen: tuple[type[BaseException], ...] = (*endings, RefocusError, OSError, _UsageError)
    _speak_any_language()
    try:
        status = click_command(app)(arguments, prog_name=name, standalone_mode=False)
        if status == INTERRUPTED:  # how Typer hands on a Ctrl-C
            raise KeyboardInterrupt
        if sys.stdout is not None:  # closed before it began
            sys.stdout.flush()  # here, where a closed pipe can still be answered for
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        status = PIPE_CLOSED  # click says 1, which means something else here
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in TRAINING:
            raise
        _complain(name, f"needs {error.name}; install the extra: pip install -e '.[train]'")
        status = BAD_INPUT
    except foreseen as error:
        text, status = _explain(error, name, endings)
        if text:
            _complain(name, text)
    return status if isinstance(status, int) else 0


def printable(text: str) -> str:
    """Take out of a line what a terminal would obey: escapes, and whatever else shows nothing."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def allow_open_files(most: int = 65536) -> None:
    """Raise the limit of open files to what this user is allowed."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # not everywhere is what is said to be allowed
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _complain(name: str, text: str) -> None:
    line = printable(f"{name}: {text}".replace("\n", " "))
    with suppress(OSError):  # the terminal was closed
        make_console(stderr=True).print(line, style="red")


def _explain(
    error: BaseException, name: str, endings: Mapping[type[BaseException], tuple[str, int]]
) -> tuple[str, int]:
    """Give the line to print about what ended a command, and its exit status."""
    for kind, ending in endings.items():
        if isinstance(error, kind):
            return ending
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing left to flush
        return "", PIPE_CLOSED
    if isinstance(error, OSError):
        return f"{error.filename or 'file'}: {reason_of(error)}", BAD_INPUT
    if isinstance(error, RefocusError):
        return str(error), error.status
    hint = getattr(getattr(error, "ctx", None), "command_path", name)
    text = " ".join(getattr(error, "format_message", error.__str__)().split())
    # no command given: the help has been printed
    return (f"{text} See `{hint} --help`." if text else ""), BAD_INPUT


def _speak_any_language() -> None:
    """Let a terminal or a pipe that has no µ or → show a question mark instead."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
