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
