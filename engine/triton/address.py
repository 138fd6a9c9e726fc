"""Where a Triton server is, which model is meant, and who may read along on the way."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from refocus.configs.hosts import is_loopback
from refocus.engine.protocol import EngineError

EXAMPLE = "grpc://127.0.0.1:8001"
FILES = ("model", "ca", "cert", "key")


@dataclass(frozen=True)
class Address:
    """A server and a model of it.

    Attributes
    ----------
    host, port
        Where the server answers gRPC; Triton's own port is 8001.
    model
        Name that the server has for the model; empty for that of the model's file.
    tls
        Whether what is sent is encrypted.
    file
        The model as this host has it: its card, checksum, and what its verdicts are computed with.
    ca
        Certificates that the server's is checked with; None for those that gRPC brings.
    cert, key
        With which this host shows who it is, where the server asks.
    """

    host: str
    port: int
    model: str = ""
    tls: bool = False
    file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def target(self) -> str:
        """``host:port``, as gRPC and people write it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def on_this_host(self) -> bool:
        """Whether no other computer can read along."""
        return is_loopback(self.host)


def is_address(engine: str) -> bool:
    """Tell whether the name of an engine is the address of a server."""
    return engine.startswith(("grpc://", "grpcs://"))


def read_address(text: str, insecure: bool = False) -> Address:
    """Read ``grpc://HOST:PORT[/MODEL][?model=FILE]``; ``grpcs://`` with ``ca``, ``cert``, ``key``.

    Parameters
    ----------
    text
        The address.
    insecure
        Allow one beyond this host without TLS.

    Raises
    ------
    EngineError
        It is none, a file that it names is not there, or others could read every frame.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
        asked = parse_qsl(parts.query, strict_parsing=True) if parts.query else []
    except ValueError as error:
        raise EngineError(f"engine {text}: {error}; write for example {EXAMPLE}") from error
    model = parts.path.strip("/")
    if not host or port is None or parts.username is not None or parts.fragment or "/" in model:
        raise EngineError(
            f"engine {text}: not HOST:PORT, or HOST:PORT/MODEL; write for example {EXAMPLE}"
        )
    tls = parts.scheme == "grpcs"
    allowed = FILES if tls else FILES[:1]
    files = {key: Path(value).expanduser() for key, value in asked}
    for key, file in files.items():
        if key not in allowed:
            of_tls = "; certificates are for grpcs://" if key in FILES else ""
            raise EngineError(f"engine {text}: {key} is not one of {', '.join(allowed)}{of_tls}")
        if not file.is_file():
            raise EngineError(f"engine {text}: {key}: {file}: no such file")
    if ("cert" in files) != ("key" in files):
        raise EngineError(f"engine {text}: cert and key belong together; give both")
    address = Address(
        host, port, model, tls, *(files.get(key) for key in ("model", "ca", "cert", "key"))
    )
    if not (tls or insecure or address.on_this_host):
        raise EngineError(
            f"engine {text}: whoever is on the way could read every frame; encrypt it "
            "(grpcs://, see docs/triton.md), or allow it with --insecure"
        )
    return address
