"""Keys for publishing beyond the host: CURVE, and only readers that were given a key.

```
DIR/publisher/   publisher.key, publisher.key_secret, readers/NAME.key    stays with the microscope
DIR/NAME/        reader.key, reader.key_secret, publisher.key             goes to the reader
```
"""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refocus.configs import RefocusError, reason_of

if TYPE_CHECKING:
    import zmq

PUBLISHER, READER, READERS = "publisher", "reader", "readers"
SECRET = ".key_secret"


def make_keys(folder: Path, reader: str = READER) -> list[Path]:
    """Make the keys of one reader and, if there are none yet, of the publisher.

    Returns
    -------
    list of Path
        The folders made or added to: that of the publisher, that of the reader.

    Raises
    ------
    RefocusError
        The reader has keys already, the name cannot be one, the folder cannot be written, or others
        could have written what is in it.
    """
    from zmq.auth import create_certificates

    if reader == PUBLISHER or not reader.replace("-", "").replace("_", "").isalnum():
        raise RefocusError(f"reader {reader!r}: not a name; give one of letters, digits, - and _")
    ours, theirs = folder / PUBLISHER, folder / reader
    if theirs.exists():
        raise RefocusError(
            f"{theirs}: exists already, and keys are not overwritten; name another reader with "
            "--reader, or another folder"
        )
    if ours.exists():
        _refuse_open_to_others(ours)
    try:
        previous = os.umask(0o077)  # a secret is readable by its owner, from its first byte
        try:
            for place in (ours / READERS, theirs):
                place.mkdir(parents=True, exist_ok=True)
            if not (ours / f"{PUBLISHER}.key_secret").exists():
                create_certificates(str(ours), PUBLISHER)
            create_certificates(str(theirs), READER)
            (ours / READERS / f"{reader}.key").write_bytes((theirs / f"{READER}.key").read_bytes())
            public = ours / f"{PUBLISHER}.key"
            (theirs / public.name).write_bytes(public.read_bytes())
        finally:
            os.umask(previous)
    except OSError as error:
        raise RefocusError(
            f"{folder}: keys cannot be written: {reason_of(error)}; name another folder"
        ) from error
    return [ours, theirs]


def guard(socket: "zmq.Socket[bytes]", folder: Path) -> Any:
    """Let only readers with a key connect to a socket that is not bound yet.

    Returns
    -------
    ThreadAuthenticator
        To be stopped before the socket's context is terminated.
    """
    from zmq.auth.thread import ThreadAuthenticator

    public, secret = _load(folder / f"{PUBLISHER}.key_secret", "run it with --keys DIR/publisher")
    readers = folder / READERS
    if not readers.is_dir():
        raise RefocusError(f"{readers}: no such folder; make keys with 'refocus-live keys DIR'")
    _refuse_open_to_others(folder)
    authenticator = ThreadAuthenticator(socket.context)
    authenticator.start()
    authenticator.configure_curve(domain="*", location=str(readers))
    socket.curve_publickey, socket.curve_secretkey = public, secret
    socket.curve_server = True
    return authenticator


def unlock(socket: "zmq.Socket[bytes]", folder: Path) -> None:
    """Give a socket that is not connected yet a reader's keys."""
    told = "use the folder that 'refocus-live keys' made for this reader"
    public, secret = _load(folder / f"{READER}.key_secret", told)
    server, _ = _load(folder / f"{PUBLISHER}.key", told, secret=False)
    _refuse_open_to_others(folder)
    socket.curve_publickey, socket.curve_secretkey = public, secret
    socket.curve_serverkey = server


def _refuse_open_to_others(folder: Path) -> None:
    """Refuse keys that somebody else could have put there, and secrets that others can read."""
    if sys.platform == "win32":
        return
    for path in (folder, *sorted(folder.rglob("*"))):
        try:
            found = path.stat()
        except OSError as error:
            raise RefocusError(
                f"{path}: not readable: {reason_of(error)}; mend it, or remove it"
            ) from error
        if found.st_uid not in (0, os.geteuid()):
            raise RefocusError(
                f"{path}: belongs to another user, who can change it; have it given to you "
                "(chown), copy it as yourself, or make keys in a folder of your own"
            )
        if found.st_mode & 0o022:
            raise RefocusError(
                f"{path}: others can write it, and so let themselves in; see whose keys it holds, "
                f"then run: chmod -R go-w {shlex.quote(str(folder))}"
            )
        if path.suffix == SECRET and found.st_mode & 0o044:
            raise RefocusError(
                f"{path}: others can read this secret key; if nobody has, run: "
                f"chmod 600 {shlex.quote(str(path))}, and else make new keys"
            )


def _load(path: Path, told: str, secret: bool = True) -> tuple[bytes, bytes]:
    from zmq.auth import load_certificate

    try:
        public, private = load_certificate(str(path))
    except (OSError, ValueError):
        raise RefocusError(f"{path}: no such key; {told}") from None
    if secret and private is None:
        raise RefocusError(f"{path}: holds no secret key; {told}")
    return public, private or b""
