"""Who can reach an address."""

import ipaddress
import re


def is_loopback(host: str) -> bool:
    """Tell whether only this computer can reach a host name or address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_local(endpoint: str) -> bool | None:
    """Tell whether a ZeroMQ endpoint stays on this computer; None where it is no endpoint."""
    if re.match(r"^(ipc|inproc)://", endpoint):
        return True
    match = re.match(r"^\w+://(\[[^\]]*\]|[^\[\]]*?):[^:]*$", endpoint)
    return None if match is None else is_loopback(match[1])


def check_port(endpoint: str) -> None:
    """Refuse what is no port of a TCP endpoint: ZeroMQ takes another for it (ValueError)."""
    port = endpoint.rpartition(":")[2]
    number = int(port) if port.isascii() and port.isdecimal() else 2**16
    if endpoint.startswith("tcp:") and port != "*" and number >= 2**16:
        raise ValueError(f"{port!r} is no port, which is a number up to 65535")
