"""Owner of a running trial, and whether it is still alive.

An owner is named host/pid/start/object: its process differs from a later one of the same number,
and of one process an object such as an experiment that a notebook makes again. Of a process on this
machine the system knows whether it runs; one on another machine beats, and is taken to be gone when
it has not been heard of for long.
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
    """A name for an object of this process."""
    return f"{process_name()}/{uuid.uuid4().hex[:8]}"


def place(owner: str) -> str:
    """host/pid of an owner."""
    return "/".join(owner.split("/")[:-2])


def is_gone(owner: str, last_beat: Callable[[], float | None]) -> bool:
    """Whether an owner's process has ended.

    Args:
        owner: its name.
        last_beat: when it was last heard of, in seconds since 1970; None if never.
    """
    process = owner.rsplit("/", 1)[0]
    if process.rsplit("/", 2)[0] == socket.gethostname():
        return not is_running(process)
    heard = last_beat()
    return heard is not None and time.time() - heard > _SILENCE_SECONDS


class Beating(Protocol):
    """Source of heartbeats: records that it is alive, where that matters now."""

    def beat_if_busy(self) -> None: ...


def keep_beating(owner: Beating) -> None:
    """Let `owner` beat every half minute, in a thread of its own, until it is no more."""
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
    """host/pid/start of a process, which tells it from a later one of the same number."""
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
