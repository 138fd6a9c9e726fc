"""The process between the readers and the publisher, so that no stranger is in the acquisition's.

A stranger may connect a thousand times, say nothing, say half of it, talk without end, or read
nothing. What that costs (descriptors, memory, turns of a loop) is spent here, within the bounds
below. The bytes of a reader that has spoken are carried to and from the publisher's own socket:
handshake, keys and subscriptions are between these two. Only large frames come another way
(:mod:`refocus.acquisition.sinks.notes`).

Run with ``LISTENER TARGET LINGER FRAMES`` in ``sys.argv``, and nothing but the standard library, by
:mod:`refocus.acquisition.sinks.entrance`: ``LISTENER`` is the descriptor of a listening socket (or
``shared``: what Windows has instead comes on standard input, after its length), ``TARGET`` the path
or the port of the publisher's socket, ``FRAMES`` whether they may be ``noted``. A byte on standard
input has the reader let go that has been stuck the longest; its end ends the process, once the
readers have what is on its way, or after ``LINGER`` seconds. What is refused is told on standard
output, a line each.
"""

import os
import selectors
import shutil
import signal
import socket
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from .notes import GREETING_BYTES, Memory, Stream  # relative: it is not "refocus" that runs this

MOST_READERS = 64
"""Connections that are carried to the publisher."""
MOST_STRANGERS = 64
"""Connections that have said nothing yet; beyond that the oldest makes room."""
STRANGER_S = 5.0
"""So long a connection may say nothing."""
NEW_PER_S = 20.0
"""Readers that may join per second, after the first ``MOST_READERS``."""
TALK_BYTES, TALK_BYTES_PER_S = 4096.0, 512.0
"""What a reader may say: a handshake and its subscriptions, then heartbeats."""
OLDEST_ZMTP = 3
"""What ZeroMQ speaks since 4.0, of 2013; notes are found in no other."""
PIECES = 8
"""Sent to one reader before the next has its turn."""
CHUNK = 1 << 18
"""Bytes carried at once, and held at most for one reader."""
TELL_S = 10.0
"""Between two reports of what was refused."""

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Budget:
    """So many at once, and so many per second after that."""

    def __init__(self, most: float, per_second: float) -> None:
        self._left = self._most = most
        self._per_second = per_second
        self._then = time.monotonic()

    def spend(self, amount: float) -> bool:
        """Take that much; False if there is less."""
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._then) * self._per_second)
        self._then = now
        if amount > self._left:
            return False
        self._left -= amount
        return True


class Reader:
    """One connection that is carried."""

    def __init__(self, client: socket.socket, inner: socket.socket, memory: Memory | None) -> None:
        self.client, self.inner = client, inner
        self.talk = Budget(TALK_BYTES, TALK_BYTES_PER_S)
        self.greeting = b""
        self.received = 0
        self.stream = Stream(memory)
        self.waiting = False
        self.stuck_since = 0.0


class Relay:
    """Serves a listening socket until its publisher is over."""

    def __init__(
        self, listener: socket.socket, target: str, linger_seconds: float, memory: Memory | None
    ) -> None:
        self._listener = listener
        self._memory = memory
        self._target = target
        self._linger_seconds = linger_seconds
        self._selector = selectors.DefaultSelector()
        self._strangers: dict[socket.socket, float] = {}
        self._readers: dict[socket.socket, Reader] = {}
        self._joining = Budget(MOST_READERS, NEW_PER_S)
        self._buffer = memoryview(bytearray(CHUNK))
        self._refused: Counter[str] = Counter()
        self._told = -TELL_S
        self._rest_until = 0.0
        self._over_at: float | None = None
        listener.setblocking(False)

    def serve(self) -> None:
        """Carry until standard input ends, and what is on its way has arrived."""
        self._selector.register(self._listener, READ, (self._accept, None))
        orders, self._orders = socket.socketpair()
        self._selector.register(orders, READ, (self._order, None))
        threading.Thread(target=self._listen_for_orders, daemon=True).start()
        while self._over_at is None or (self._readers and time.monotonic() < self._over_at):
            for key, events in self._selector.select(0.2):
                if self._selector.get_map().get(key.fd) is key:  # not closed in this turn
                    serve, reader = key.data
                    serve(key.fileobj, reader, events)
            self._sweep()

    # -- orders

    def _listen_for_orders(self) -> None:
        while said := os.read(0, 1):  # a thread, because Windows cannot select a pipe
            self._orders.send(said)
        self._orders.close()

    def _order(self, orders: socket.socket, reader: None, events: int) -> None:
        if orders.recv(64):
            stuck = [one for one in self._readers.values() if one.waiting]
            if stuck:
                self._let_go(
                    min(stuck, key=lambda one: one.stuck_since),
                    "took nothing for too long; it may connect again",
                )
            return
        self._selector.unregister(orders)
        self._over_at = time.monotonic() + self._linger_seconds
        if self._rest_until == 0.0:
            self._selector.unregister(self._listener)
        self._listener.close()
        for stranger in tuple(self._strangers):
            self._forget(stranger)

    # -- who comes

    def _accept(self, listener: socket.socket, reader: None, events: int) -> None:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:  # too many open files, here: those who say nothing make room
            self._refuse(f"could not be accepted: {error.strerror}")
            if self._strangers:
                self._forget(next(iter(self._strangers)))
            else:
                self._selector.unregister(listener)
                self._rest_until = time.monotonic() + 0.2
            return
        client.setblocking(False)
        _keep_alive(client)
        if len(self._strangers) >= MOST_STRANGERS:
            self._forget(next(iter(self._strangers)))
            self._refuse("said nothing, and made room for another")
        self._strangers[client] = time.monotonic()
        self._selector.register(client, READ, (self._join, None))

    def _join(self, client: socket.socket, reader: None, events: int) -> None:
        """Connect to the publisher for somebody who has spoken."""
        self._selector.unregister(client)
        del self._strangers[client]
        said = _receive(client, 4096)
        if said is None or said[:1] != b"\xff":  # no ZMTP
            client.close()
            return
        if not self._joining.spend(1):
            client.close()
            self._refuse("refused: too many came at once")
            return
        if len(self._readers) >= MOST_READERS:
            silent = (one for one in self._readers.values() if one.received <= GREETING_BYTES)
            if (oldest := next(silent, None)) is None:
                client.close()
                self._refuse(f"refused: {MOST_READERS} readers are there")
                return
            self._let_go(oldest, "did not finish its handshake, and made room for another")
        inner = self._connect()
        if inner is None:
            client.close()
            return
        joined = self._readers[client] = Reader(client, inner, self._memory)
        self._selector.register(client, READ, (self._serve_client, joined))
        self._selector.register(inner, READ, (self._serve_inner, joined))
        self._say(joined, said)

    def _connect(self) -> socket.socket | None:
        by_path = not self._target.isdecimal()
        inner = socket.socket(socket.AF_UNIX if by_path else socket.AF_INET)
        try:
            inner.settimeout(1.0)
            inner.connect(self._target if by_path else ("127.0.0.1", int(self._target)))
            inner.setblocking(False)
            if not by_path:
                inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            inner.close()
            return None
        return inner

    # -- carrying

    def _serve_client(self, client: socket.socket, reader: Reader, events: int) -> None:
        if events & WRITE:
            self._send(reader)
        if events & READ and client in self._readers:
            said = _receive(client, 4096)
            if said is None:
                self._let_go(reader)
            elif said:
                self._say(reader, said)

    def _say(self, reader: Reader, said: bytes) -> None:
        """Carry what a reader says to the publisher; it has little to say."""
        if not reader.talk.spend(len(said)):
            self._let_go(reader, "let go: it talked without end, and a reader has little to say")
            return
        reader.greeting += said[: 11 - len(reader.greeting)]
        if self._memory is not None and b"\0" <= reader.greeting[10:] < bytes([OLDEST_ZMTP]):
            self._let_go(reader, "refused: they speak a ZeroMQ older than 4.0")
            return
        try:
            sent = reader.inner.send(said)
        except OSError:
            sent = 0
        if sent < len(said):
            self._let_go(reader)

    def _serve_inner(self, inner: socket.socket, reader: Reader, events: int) -> None:
        try:
            count = inner.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if count:
            reader.received += count
            reader.stream.add(self._buffer[:count])
            self._send(reader)
            reader.stream.keep()
        else:
            self._let_go(reader)

    def _send(self, reader: Reader) -> None:
        """Send a reader what it takes; until that is gone nothing more comes."""
        was_waiting, moved = reader.waiting, False
        try:
            for _ in range(PIECES):
                if not (piece := reader.stream.piece()):
                    break
                sent = reader.client.send(piece)
                reader.stream.sent(sent)
                moved = moved or sent > 0
        except BlockingIOError:
            pass
        except OSError:
            self._let_go(reader)
            return
        if moved or not was_waiting:
            reader.stuck_since = time.monotonic()
        reader.waiting = bool(reader.stream.piece())
        if reader.waiting == was_waiting:
            return
        if reader.waiting:
            self._selector.unregister(reader.inner)
            self._selector.modify(reader.client, READ | WRITE, (self._serve_client, reader))
        else:
            self._selector.modify(reader.client, READ, (self._serve_client, reader))
            self._selector.register(reader.inner, READ, (self._serve_inner, reader))

    # -- who goes

    def _let_go(self, reader: Reader, why: str = "") -> None:
        if self._readers.pop(reader.client, None) is None:
            return
        reader.stream.release()
        for end in (reader.client, reader.inner):
            with suppress(KeyError):  # while a reader is stuck nobody listens to the other end
                self._selector.unregister(end)
            end.close()
        if why:
            self._refuse(why)

    def _forget(self, stranger: socket.socket) -> None:
        del self._strangers[stranger]
        self._selector.unregister(stranger)
        stranger.close()

    def _sweep(self) -> None:
        now = time.monotonic()
        while self._strangers:
            stranger, since = next(iter(self._strangers.items()))
            if now - since < STRANGER_S:
                break
            self._forget(stranger)
            self._refuse("said nothing")
        if 0.0 < self._rest_until < now and self._over_at is None:
            self._rest_until = 0.0
            self._selector.register(self._listener, READ, (self._accept, None))
        if self._refused and now - self._told > TELL_S:
            self._told = now
            with suppress(OSError):
                for why, count in self._refused.items():
                    os.write(1, f"{count} connections: {why}\n".encode())
            self._refused.clear()

    def _refuse(self, why: str) -> None:
        self._refused[why] += 1


def _receive(client: socket.socket, most: int) -> bytes | None:
    """Give what came; None at the end of the connection."""
    try:
        return client.recv(most) or None
    except BlockingIOError:
        return b""
    except OSError:
        return None


def _keep_alive(client: socket.socket) -> None:
    """Have the system notice a reader whose computer has gone."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if client.family in (socket.AF_INET, socket.AF_INET6):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                client.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def main() -> None:
    """Serve as the arguments say."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the acquisition
    target, linger_seconds = sys.argv[2], float(sys.argv[3])
    memory = Memory() if sys.argv[4] == "noted" else None
    if sys.platform == "win32":
        length = int.from_bytes(sys.stdin.buffer.raw.read(4), "little")
        listener = socket.fromshare(sys.stdin.buffer.raw.read(length))
    else:
        listener = socket.socket(fileno=int(sys.argv[1]))
    Relay(listener, target, linger_seconds, memory).serve()
    if not target.isdecimal():
        shutil.rmtree(Path(target).parent, ignore_errors=True)
