"""Address of the server, and the host names that it accepts."""

from __future__ import annotations

HERE = "127.0.0.1"
# A page elsewhere may point a name of its own at this machine; it cannot choose these.
_NAMES = ("127.0.0.1", "localhost", "[::1]")


def is_here(host: str) -> bool:
    """Whether a request's ``Host`` names this machine, with or without a port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower() in _NAMES
