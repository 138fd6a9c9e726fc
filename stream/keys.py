"""Keys for publishing beyond the host: CURVE, and only readers that were given a key.

```
DIR/publisher/   publisher.key, publisher.key_secret, readers/NAME.key    stays with the microscope
DIR/NAME/        reader.key, reader.key_secret, publisher.key             goes to the reader
```
"""

import logging
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refocus.configs import RefocusError, reason_of, sentence_of

if TYPE_CHECKING:
    import zmq

logger = logging.getLogger("refocus.stream")

PUBLISHER, READER, READERS = "publisher", "reader", "readers"
PUBLIC, SECRET = ".key", ".key_secret"
MOST_BYTES = 1 << 16
"""Of a file of keys, which has a few lines."""


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
    if reader.casefold() == PUBLISHER or not reader.replace("-", "").replace("_", "").isalnum():
        raise RefocusError(f"reader {reader!r}: not a name; give one of letters, digits, - and _")
    ours, theirs = folder / PUBLISHER, folder / reader
    let_in = ours / READERS / f"{reader}{PUBLIC}"
    try:
        for path in (theirs, let_in):  # what was taken to a reader is not here any more
            if path.exists():
                raise RefocusError(
                    f"{path}: exists already, and keys are not overwritten; name another reader "
                    "with --reader, or another folder"
                )
        if ours.exists():
            _refuse_open_to_others(ours)
        previous = os.umask(0o077)  # a secret is readable by its owner, from its first byte
        try:
            _write_keys(ours, theirs, let_in)
        finally:
            os.umask(previous)
    except OSError as error:
        raise RefocusError(
            f"{folder}: keys cannot be written: {reason_of(error)}; name another folder"
        ) from error
    return [ours, theirs]


def _write_keys(ours: Path, theirs: Path, let_in: Path) -> None:
    """Write the keys of a reader, and those of the publisher if there are none."""
    from zmq.auth import create_certificates

    new = [let_in]
    let_in.parent.mkdir(parents=True, exist_ok=True)
    theirs.mkdir()
    try:
        if not (ours / f"{PUBLISHER}{SECRET}").exists():
            new += [ours / f"{PUBLISHER}{kind}" for kind in (PUBLIC, SECRET)]
            create_certificates(str(ours), PUBLISHER)
        create_certificates(str(theirs), READER)
        for source, target in (
            (ours / f"{PUBLISHER}{PUBLIC}", theirs / f"{PUBLISHER}{PUBLIC}"),
            (theirs / f"{READER}{PUBLIC}", let_in),
        ):
            target.write_bytes(source.read_bytes())
    except BaseException:  # half of it would stand in the way of the next try
        shutil.rmtree(theirs, ignore_errors=True)
        for path in new:
            path.unlink(missing_ok=True)
        raise


def guard(socket: "zmq.Socket[bytes]", folder: Path) -> Any:
    """Let only readers with a key connect to a socket that is not bound yet.

    Readers that are added to the folder later are let in, too, and those removed no more.

    Returns
    -------
    ThreadAuthenticator
        To be stopped before the socket's context is terminated.
    """
    from zmq.auth.thread import ThreadAuthenticator

    public, secret = _load(folder / f"{PUBLISHER}{SECRET}", "run it with --keys DIR/publisher")
    readers = _Readers(folder)
    authenticator = ThreadAuthenticator(socket.context)
    authenticator.start()
    authenticator.configure_curve_callback(credentials_provider=readers)
    socket.curve_publickey, socket.curve_secretkey = public, secret
    socket.curve_server = True
    return authenticator


class _Readers:
    """Whom a publisher lets in, as its folder says when somebody comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._told = ""
        self._known = self._read()
        if not self._known:
            raise RefocusError(
                f"{folder / READERS}: no key of a reader is there, and nobody could read; make one "
                "with 'refocus-live keys DIR'"
            )

    def callback(self, domain: str, key: bytes) -> bool:
        """Tell whether a key is one of theirs; called by pyzmq, on a thread of its own."""
        try:
            self._known, self._told = self._read(), ""
        except Exception as error:  # those who were known stay so, and pyzmq's thread goes on
            if self._told != (told := sentence_of(error)):
                self._told = told
                logger.warning("%s", told)
        return key in self._known

    def _read(self) -> set[bytes]:
        _refuse_open_to_others(self._folder)
        folder = self._folder / READERS
        told = "copy it from the reader's folder again, or remove it"
        try:
            names = sorted(os.listdir(folder))  # says so where glob would give nothing
        except OSError as error:
            raise RefocusError(
                f"{folder}: not readable: {reason_of(error)}; make keys with 'refocus-live keys "
                "DIR', or mend it"
            ) from error
        return {_load(folder / name, told, False)[0] for name in names if name.endswith(PUBLIC)}


def unlock(socket: "zmq.Socket[bytes]", folder: Path) -> None:
    """Give a socket that is not connected yet a reader's keys."""
    told = "use the folder that 'refocus-live keys' made for this reader"
    public, secret = _load(folder / f"{READER}{SECRET}", told)
    server, _ = _load(folder / f"{PUBLISHER}{PUBLIC}", told, secret=False)
    _refuse_open_to_others(folder)
    socket.curve_publickey, socket.curve_secretkey = public, secret
    socket.curve_serverkey = server


def _refuse_open_to_others(folder: Path) -> None:
    """Refuse keys that somebody else could have put there, and secrets that others can read."""
    if sys.platform == "win32":
        return
    try:
        there = sorted(folder.rglob("*"))
    except OSError as error:
        raise RefocusError(f"{folder}: not readable: {reason_of(error)}; mend it") from error
    for path in (folder, *there):
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
    """Read a file of keys, in the form of ZPL that pyzmq writes."""
    try:
        if not path.exists():
            raise RefocusError(f"{path}: no such key; {told}")
        if not path.is_file():  # of a pipe nothing might ever come
            raise RefocusError(f"{path}: is no file of a key; {told}")
        lines = path.read_bytes()[:MOST_BYTES].splitlines()
    except OSError as error:
        raise RefocusError(f"{path}: not readable: {reason_of(error)}; {told}") from error
    found: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b"=")
        found.setdefault(name.strip(), value.strip(b" \t'\""))
    public, private = found.get(b"public-key", b""), found.get(b"secret-key", b"")
    if not _is_key(public) or (secret and not _fit(private, public)):
        whole = "pair of keys, secret and public," if secret else "public key"
        raise RefocusError(f"{path}: holds no {whole} that can be right; {told}")
    return public, private


def _is_key(text: bytes) -> bool:
    from zmq.utils.z85 import Z85MAP

    return len(text) == 40 and all(letter in Z85MAP for letter in text)


def _fit(secret: bytes, public: bytes) -> bool:
    import zmq

    try:
        return zmq.curve_public(secret) == public
    except (zmq.ZMQError, ValueError):
        return False
