"""The command ``refocus-train light-paths``: teaching the estimator that a model carries."""

import json
from pathlib import Path
from typing import Annotated

import typer

from refocus.configs.command import JsonOption, make_console, wrote
from refocus.configs.terminal import progress_bar

LIGHT_PATHS_EXAMPLES = """
[bold]Example[/bold]

refocus-train light-paths --config any-objective-base --output runs/light-paths.json
"""
out, err = make_console(), make_console(stderr=True)


def light_paths(
    config: Annotated[
        str, typer.Option(metavar="FILE", help="YAML file, or the name of a preset.")
    ],
    output: Annotated[Path, typer.Option(metavar="FILE", help="The file to write, JSON.")],
    examples: Annotated[
        int, typer.Option(metavar="N", min=256, help="How many windows it sees.")
    ] = 64_000,
    as_json: JsonOption = False,
) -> None:
    """Teach the estimator of light paths of a run on every objective."""
    from refocus.configs.presets import load_train_config
    from refocus.training.light_path import fit_estimator, write_estimator

    settings = load_train_config(config)
    with progress_bar(err, "{task.percentage:3.0f} %") as bar:
        task = bar.add_task("simulating spectra", total=None, figures="")

        def told(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of)

        weights = fit_estimator(settings, examples, told)
    write_estimator(weights, output)
    if as_json:
        print(json.dumps({"written": str(output), "sha256": weights.digest()}))
        return
    out.print(wrote(output))
