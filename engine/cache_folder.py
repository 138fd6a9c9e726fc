"""The user's own folder of what was compiled on this machine; it is executable code."""

import os
import sys
from pathlib import Path

from refocus.configs import reason_of
from refocus.engine.protocol import EngineError, log


def cache_folder() -> Path:
    """Give the user's own folder of plans: ``$REFOCUS_CACHE``, or the platform's cache."""
    if "REFOCUS_CACHE" in os.environ:
        return Path(os.environ["REFOCUS_CACHE"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "refocus" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "refocus"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refocus"


def own_folder(folder: Path) -> None:
    """Make the folder, for this user alone, or refuse the one that is there.

    Raises
    ------
    EngineError
        It belongs to another user, or others may write to it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        log.warning("%s: engines cannot be kept there (%s)", folder, reason_of(error))
        return
    check_owner(folder)


def check_owner(path: Path) -> None:
    """Refuse what another user wrote, or may write to.

    Raises
    ------
    EngineError
        It is so.
    """
    if sys.platform == "win32" or not path.exists():
        return
    state = path.stat()
    if state.st_uid != os.getuid():
        raise EngineError(
            f"{path}: belongs to another user, and engines are executable code; "
            "set REFOCUS_CACHE to a folder of your own"
        )
    if state.st_mode & 0o022:
        raise EngineError(
            f"{path}: other users may write to it, and engines are executable code; "
            f"run: chmod go-w '{path}'"
        )
