"""The headers of schema ``refocus/1`` as a JSON Schema, for readers in other languages.

It ships as ``schema/refocus-1.json``; ``python -m refocus.stream.json_schema`` prints it from the
models that the publisher uses, and a test compares the two.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from refocus.stream import messages
from refocus.stream.shared_memory import SharedPixels

PARTS: dict[str, type[BaseModel]] = {
    "refocus.run": messages.RunHeader,
    "refocus.frame": messages.FrameHeader,
    "refocus.stats": messages.StatsHeader,
    "refocus.end": messages.EndHeader,
    "refocus.shared": SharedPixels,
}
"""Second part of a message by its topic; of ``refocus.shared`` the third."""


def schema_path() -> Path:
    """Find the JSON Schema that ships in the package."""
    return Path(str(files("refocus.stream") / "schema" / "refocus-1.json"))


def build_schema() -> dict[str, Any]:
    """Give the JSON Schema: under ``$defs``, one definition per topic."""
    definitions: dict[str, Any] = {}
    for topic, model in PARTS.items():
        one = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= one.pop("$defs", {})
        one["title"] = topic
        one["required"] = ["schema", *one.get("required", [])]
        definitions[topic] = one
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "refocus/1",
        "description": "Headers of the messages that refocus-live publishes, by topic in $defs. "
        "Unknown keys are to be ignored.",
        "$defs": definitions,
    }


if __name__ == "__main__":
    print(json.dumps(build_schema(), indent=2))
