"""Plans kept from run to run. A plan is executable code: one that is not surely ours is rebuilt.

Beside each plan lies a JSON file that says everything it depends on, and the checksum of the plan.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refocus.configs import ModelCard, reason_of
from refocus.configs.files import is_no_file, replacing
from refocus.engine.cache_folder import cache_folder, check_owner, own_folder
from refocus.engine.nvidia import Gpu
from refocus.engine.protocol import EngineError, log
from refocus.engine.tensorrt.build import Profile, Runtime
from refocus.engine.trust.evidence import NetworkOutputs

Description = dict[str, Any]
"""What a plan depends on: model checksum, runtime, version, GPU, driver, profile, precision."""


def describe(
    card: ModelCard,
    runtime: Runtime,
    profile: Profile,
    gpu: Gpu | None,
    target: str | None = None,
) -> Description:
    """Say everything that a plan depends on; the runtime picks the rest from it."""
    return {
        "outputs": list(NetworkOutputs._fields),
        "model": f"{card.name} {card.version}",
        "model_sha256": card.sha256,
        "precision": "fp16",
        "runtime": runtime.name,
        "runtime_version": runtime.version,
        "gpu": gpu.name if gpu else "",
        "capability": target or (gpu.capability if gpu else ""),
        "driver": gpu.driver if gpu else "",
        "profile": [list(p) for p in (profile.smallest, profile.usual, profile.largest)],
    }


def cache_key(description: Description) -> str:
    """Digest a description."""
    return hashlib.sha256(_canonical(description).encode()).hexdigest()[:32]


def cached_plan(
    description: Description, build: Callable[[], bytes], folder: Path | None = None
) -> bytes:
    """Give the plan of a description from the cache, or build and keep it.

    Parameters
    ----------
    description
        Plain JSON values.
    build
        Called where there is no plan, or one that does not match.
    folder
        Default: :func:`~refocus.engine.cache_folder.cache_folder`.

    Returns
    -------
    bytes
        A plan is given even where it could not be kept (a full disk); the log says so.

    Raises
    ------
    EngineError
        The folder belongs to another user, or others may write to it.
    """
    folder = folder or cache_folder()
    path = folder / f"{cache_key(description)}.plan"
    own_folder(folder)
    if path.exists():
        try:
            return read_plan(path, description)
        except EngineError as error:
            log.warning("%s; it is built again", error)
    plan = build()
    try:
        write_plan(path, plan, description)
    except EngineError as error:
        log.warning("%s; it will be built again next time", error)
    return plan


def write_plan(path: Path, plan: bytes, description: Description) -> None:
    """Write a plan and its JSON; each appears whole, the JSON last, or not at all.

    Raises
    ------
    EngineError
        They cannot be written.
    """
    beside = path.with_name(path.name + ".json")
    signed = {**description, "plan_sha256": hashlib.sha256(plan).hexdigest()}
    try:
        beside.unlink(missing_ok=True)
        for target, content in (
            (path, plan),
            (beside, json.dumps(signed, indent=2, sort_keys=True).encode()),
        ):
            with replacing(target, shared=True) as part:
                part.touch(mode=0o600)
                part.write_bytes(content)
    except OSError as error:
        raise EngineError(
            f"{path}: engine cannot be written ({reason_of(error)}); free some space there, "
            "or set REFOCUS_CACHE to another folder"
        ) from error


def read_description(path: Path) -> Description:
    """Read the JSON beside a plan.

    Raises
    ------
    EngineError
        It is missing or not readable.
    """
    beside = path.with_name(path.name + ".json")
    try:
        if is_no_file(path) or is_no_file(beside):  # reading a pipe would wait for ever
            raise OSError("no regular file")
        description = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(
            f"{path}: an engine without a readable {beside.name} is not loaded; "
            "build it with 'refocus-export tensorrt'"
        ) from error
    if not isinstance(description, dict):
        raise EngineError(f"{beside}: not the description of an engine; build the engine again")
    return description


def read_plan(path: Path, description: Description) -> bytes:
    """Read a plan, if it is the user's own and is what was asked for.

    Raises
    ------
    EngineError
        It was written by another user, its JSON is missing or differs, or it was altered.
    """
    check_owner(path)
    check_owner(path.with_name(path.name + ".json"))
    found = read_description(path)
    digest = found.pop("plan_sha256", "")
    keys = sorted({*found, *description})
    wrong = [k for k in keys if _canonical(found.get(k)) != _canonical(description.get(k))]
    if wrong:
        raise EngineError(f"{path}: engine is for another machine or model ({', '.join(wrong)})")
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path}: engine cannot be read ({reason_of(error)})") from error
    if hashlib.sha256(plan).hexdigest() != digest:
        raise EngineError(f"{path}: engine is damaged or was altered")
    return plan


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
