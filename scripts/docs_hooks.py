"""What mkdocs cannot do by itself: help of the commands, the decisions' list, files beside docs/.

mkdocs calls the functions by their names while it builds; see ``hooks`` in ``mkdocs.yml``.
"""

import re
from importlib import import_module
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click

from refocus.configs.command import click_command

ROOT = Path(__file__).parents[1]
OUTSIDE = {"../stream/schema/refocus-1.json": "refocus-1.json"}
"""Files that pages link to in the checkout, and their place in the site."""
HELP = re.compile(r"^<!-- help of (?P<command>[\w-]+) in (?P<module>[\w.]+) -->$", re.MULTILINE)
EXAMPLE_LINES = re.compile(r"(?:^refocus-.*\n+)+", re.MULTILINE)
DECISIONS = "<!-- the decisions -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files from outside of ``docs/``."""
    for link, place in OUTSIDE.items():
        source = (ROOT / "docs" / link).resolve()
        files.append(File.generated(config, place, abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in what is written down elsewhere already."""
    for link, place in OUTSIDE.items():
        markdown = markdown.replace(f"]({link})", f"]({place})")
    markdown = markdown.replace(DECISIONS, _decisions())
    return HELP.sub(lambda found: _help(found["command"], found["module"]), markdown)


def _decisions() -> str:
    files = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    titles = [file.read_text(encoding="utf-8").splitlines()[0].lstrip("# ") for file in files]
    return "\n".join(
        f"- {file.name[:4]} [{title}]({file.name})"
        for file, title in zip(files, titles, strict=True)
    )


def _help(command: str, module: str) -> str:
    """Give the help of a command and of all below it, as Markdown."""
    described = click_command(import_module(module).app)
    context = described.make_context(command, [], resilient_parsing=True)
    text = get_docs_for_click(obj=described, ctx=context, name=command)
    text = re.sub(r"^(#+) ", r"#\1 ", text, flags=re.MULTILINE)
    text = re.sub(r"\[/?dim\]|\\(?=\[)", "", text)
    text = re.sub(r"\[b\](.+?)\[/b\]", r"`\1`", text)
    text = re.sub(r"\[bold\](Examples?)\[/bold\]", r"**\1**:", text)
    return EXAMPLE_LINES.sub(lambda found: f"```console\n{found[0].strip()}\n```\n", text)
