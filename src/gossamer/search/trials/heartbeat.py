"""Owners of running trials, and whether they are still alive.

An owner's name is host/pid/start/object. The start tells its process from a later one of the same
number, the object tells apart, for example, two experiments that one notebook has created. The
system knows whether a process on this machine runs; an owner on another machine sends heartbeats,
and is considered dead when its last one is too old.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

_BEAT_SECONDS = 30.0
_SILENCE_SECONDS = 600.0


def new_owner() -> str:
    """Return the name of a new owner in this process."""
    return f"{process_name()}/{uuid.uuid4().hex[:8]}"


def place(owner: str) -> str:
    """host/pid of an owner."""
    return "/".join(owner.split("/")[:-2])


def is_gone(owner: str, last_beat: Callable[[], float | None]) -> bool:
    """Whether an owner's process has ended.

    Args:
        owner: its name.
        last_beat: time of its last heartbeat, in seconds since 1970; None if there was none.
    """
    process = owner.rsplit("/", 1)[0]
    if process.rsplit("/", 2)[0] == socket.gethostname():
        return not is_running(process)
    heard = last_beat()
    return heard is not None and time.time() - heard > _SILENCE_SECONDS


class Beating(Protocol):
    """An object that sends heartbeats while it is busy."""

    def beat_if_busy(self) -> None: ...


def keep_beating(owner: Beating) -> None:
    """Let `owner` send heartbeats every half minute, in a thread, until it is deleted."""
    stop = threading.Event()
    weakref.finalize(owner, stop.set)
    threading.Thread(
        target=_beat, args=(weakref.ref(owner), stop), name="gossamer-heartbeat", daemon=True
    ).start()


def _beat(owner: weakref.ref[Beating], stop: threading.Event) -> None:
    while not stop.wait(_BEAT_SECONDS):
        alive = owner()
        if alive is None:
            return
        alive.beat_if_busy()
        del alive


def process_name(pid: int | None = None) -> str:
    """Return host/pid/start of a process."""
    pid = os.getpid() if pid is None else pid
    try:
        # The 22nd field, counted after the name, which may itself hold spaces and brackets.
        start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        start = "0"  # no /proc on this system: the number alone must do
    return f"{socket.gethostname()}/{pid}/{start}"


def is_running(process: str) -> bool:
    """Whether `process`, of this host, still runs."""
    pid = int(process.split("/")[-2])
    if Path("/proc/self/stat").exists():
        return process == process_name(pid) and not _is_zombie(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
