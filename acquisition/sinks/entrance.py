"""Where readers connect to a publisher: an endpoint, and the process that serves it.

Whoever reaches an endpoint can fill the descriptors, the memory and the turns of the process that
listens there, and that process must not be the acquisition's: see
:mod:`refocus.acquisition.sinks.relay`. This side binds, so that what is wrong with an endpoint is
told at once, starts the relay, and starts it anew should it end.
"""

import errno
import logging
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import zmq

from refocus.configs import RefocusError, reason_of
from refocus.configs.hosts import check_port, is_local

logger = logging.getLogger("refocus.acquisition")

WAITING = 128
"""Connections that may wait to be accepted."""
RESTART_S = 0.5
"""After which a relay that has ended is started anew."""
RELAY = "import sys; sys.path.append(sys.argv.pop(1)); from sinks.relay import main; main()"
"""What runs it: without the package, whose imports would take a second."""


class Entrance:
    """Listens on an endpoint, for a publisher whose own socket nobody else can reach.

    Parameters
    ----------
    endpoint
        ``tcp://`` or ``ipc://``, see :class:`refocus.acquisition.sinks.publisher.Publisher`.
    linger_seconds
        How long readers may take, at the end, for what is on its way.
    noted
        Whether the publisher sends notes of frames: it does not where readers have keys.
    ended
        Called when a relay has ended and before the next is started.

    Attributes
    ----------
    endpoint
        Where readers connect, with the port that was chosen.
    inner
        Where the publisher's own socket is to be bound.

    Raises
    ------
    RefocusError
        The endpoint is not one, or is in use.
    """

    def __init__(
        self,
        endpoint: str,
        linger_seconds: float,
        noted: bool = False,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self.inner, self._folder = "tcp://127.0.0.1:*", ""
        if sys.platform != "win32":
            self._folder = tempfile.mkdtemp(prefix="refocus-")  # only this user may enter
            self.inner = f"ipc://{self._folder}/publisher"
        if endpoint == "ipc://*":
            endpoint = f"ipc://{self._folder}/readers"
        try:
            self._listener, self.endpoint = _listen(endpoint)
        except (zmq.ZMQError, ValueError, OSError) as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise RefocusError(why_not(endpoint, error)) from None
        self._file = _file_of(self.endpoint)
        self._made = _found(self._file)
        self._linger_seconds = linger_seconds
        self._frames = "noted" if noted else "carried"
        self._ended = ended
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    @staticmethod
    def serves(endpoint: str) -> bool:
        """Tell whether strangers can come to such an endpoint at all."""
        return endpoint.startswith("tcp:") or (
            endpoint.startswith("ipc:") and hasattr(socket, "AF_UNIX")
        )

    def open(self, inner: str) -> None:
        """Let readers in, to the socket that is bound at ``inner``."""
        self._target = inner.removeprefix("ipc://") if self._folder else inner.rpartition(":")[2]
        try:
            self._process = self._start()
        except OSError as error:
            raise RefocusError(
                f"endpoint {self.endpoint}: the process that serves readers does not start: "
                f"{sys.executable}: {reason_of(error)}"
            ) from None
        self._thread = threading.Thread(target=self._follow, name="refocus-relay", daemon=True)
        self._thread.start()

    def let_slowest_go(self) -> None:
        """Disconnect the reader that has been stuck the longest; it may connect again."""
        process = self._process
        if process is not None and process.stdin is not None:
            with suppress(OSError, ValueError):  # it has ended, or is too busy to listen
                os.write(process.stdin.fileno(), b"s")

    def close(self, timeout: float) -> None:
        """Let nobody in any more, once readers have what is on its way. May be called twice."""
        with self._lock:
            self._closing.set()
            process, self._process = self._process, None
        self._listener.close()
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._thread is not None:
            self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)
        there = _found(self._file)
        if self._made and there and os.path.samestat(self._made, there):
            Path(self._file).unlink(missing_ok=True)

    def _start(self) -> "subprocess.Popen[bytes]":
        number = self._listener.fileno()
        shared = sys.platform == "win32"
        folder = str(Path(__file__).parents[1])
        listener = "shared" if shared else str(number)
        settings = [listener, self._target, str(self._linger_seconds), self._frames]
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", RELAY, folder, *settings],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=() if shared else (number,),
            start_new_session=not shared,  # the signals of a terminal are for the acquisition
        )
        assert process.stdin is not None
        if sys.platform == "win32":
            content = self._listener.share(process.pid)
            process.stdin.write(len(content).to_bytes(4, "little") + content)
        else:
            os.set_blocking(process.stdin.fileno(), False)  # orders wait for nobody
        return process

    def _follow(self) -> None:
        """Log what the relay tells, and start it anew should it end."""
        process = self._process
        while process is not None:
            assert process.stdout is not None
            for line in process.stdout:
                logger.warning("endpoint %s: %s", self.endpoint, line.decode().strip())
            process.stdout.close()
            if process.stdin is not None:
                process.stdin.close()
            if self._closing.wait(RESTART_S):
                return
            process.wait()
            self._ended()
            process = self._started_anew()

    def _started_anew(self) -> "subprocess.Popen[bytes] | None":
        """Start the relay again, however often that fails; None once nobody is to be let in."""
        told = ""
        while True:
            with self._lock:
                if self._closing.is_set():
                    return None
                try:
                    self._process = self._start()
                except OSError as error:  # no memory, or no descriptor, for now
                    why = reason_of(error)
                else:
                    logger.error(
                        "endpoint %s: what serves readers has ended; started anew", self.endpoint
                    )
                    return self._process
            if why != told:
                said = "what serves readers has ended, and does not start"
                logger.error("endpoint %s: %s: %s; trying again", self.endpoint, said, why)
                told = why
            if self._closing.wait(RESTART_S):
                return None


def refuse_beyond_host(endpoint: str) -> None:
    """Refuse an endpoint that other hosts can reach."""
    if is_local(endpoint) is False:  # what is no endpoint at all, the socket will say
        raise RefocusError(
            f"endpoint {endpoint}: other hosts could read every frame; publish on 127.0.0.1, "
            "give readers keys (refocus-live keys DIR, then --keys DIR/publisher), or allow it "
            "with --insecure"
        )


def _listen(endpoint: str) -> tuple[socket.socket, str]:
    """Bind, and give the endpoint as it is then."""
    if endpoint.startswith("ipc://"):
        return _listen_on_file(endpoint)
    check_port(endpoint)
    # ZeroMQ knows what it takes for a host: interfaces, wildcards. It is asked on another port, for
    # on this one readers may be waiting already
    head, _, port = re.sub(r"^tcp://localhost:", "tcp://127.0.0.1:", endpoint).rpartition(":")
    number = int(port) if port != "*" else 0
    with zmq.Context() as context, context.socket(zmq.XPUB) as probe:
        probe.bind(f"{head}:{'*' if number else port}")
        bound = probe.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
    host = bound.removeprefix("tcp://").rpartition(":")[0]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host.strip("[]"), number), family=family, backlog=WAITING)
    return listener, f"tcp://{host}:{listener.getsockname()[1]}"


def _listen_on_file(endpoint: str) -> tuple[socket.socket, str]:
    """Bind to a file, which two publishers never share: the second would steal it in silence."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        if file := _file_of(endpoint):
            with _alone_beside(file):
                if found := _found(file):
                    if not stat.S_ISSOCK(found.st_mode):
                        raise OSError(errno.EEXIST, "a file is there that is no socket")
                    if _answers(file):
                        raise OSError(errno.EADDRINUSE, "in use")
                    Path(file).unlink()  # of a publisher that was killed
                listener.bind(file)
        else:
            listener.bind("\0" + endpoint.removeprefix("ipc://@"))
        listener.listen(WAITING)
    except BaseException:
        listener.close()
        raise
    return listener, endpoint


def _file_of(endpoint: str) -> str:
    """Give the file of an endpoint; empty where it has none."""
    name = endpoint.removeprefix("ipc://")
    return "" if name in (endpoint, "") or name.startswith("@") else name


def _found(file: str) -> os.stat_result | None:
    with suppress(OSError):
        return Path(file).lstat() if file else None
    return None


@contextmanager
def _alone_beside(file: str) -> Iterator[None]:
    """Keep two publishers that start at once from taking one file."""
    import fcntl

    descriptor = os.open(Path(file).parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _answers(file: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(file)
        except BlockingIOError:
            return True  # so many wait to be accepted
        except OSError:
            return False
        return True


def why_not(endpoint: str, error: Exception) -> str:
    """Say in one line why an endpoint cannot be bound to."""
    code = getattr(error, "errno", None)
    if code == zmq.EADDRINUSE:
        other = "another file" if endpoint.startswith("ipc:") else "another port"
        return f"endpoint {endpoint}: in use by another program; choose {other}, or end it"
    if code == errno.EACCES:
        other = (
            "a file in a folder of yours" if endpoint.startswith("ipc:") else "a port above 1023"
        )
        return f"endpoint {endpoint}: not permitted; choose {other}"
    if code in (errno.EMFILE, errno.ENFILE):
        return f"endpoint {endpoint}: too many open files; raise the limit (ulimit -n)"
    if code in (zmq.EADDRNOTAVAIL, errno.ENODEV):
        return f"endpoint {endpoint}: this host has no such address; publish on 127.0.0.1"
    return (
        f"endpoint {endpoint}: not one to bind to ({error}); write for example tcp://127.0.0.1:5555"
    )
