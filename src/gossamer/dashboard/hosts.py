"""The address of the server, and the host names that it accepts."""

from __future__ import annotations

HERE = "127.0.0.1"
# Other host names are refused: a foreign page could point its own name at this machine.
_NAMES = ("127.0.0.1", "localhost", "[::1]")


def is_here(host: str) -> bool:
    """Return whether a request's ``Host``, with or without a port, names this machine."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower() in _NAMES
