"""A PostgreSQL server of the tests' own, which may be killed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    named = shutil.which("postgres")
    if found:
        return found[-1].parent
    return Path(named).resolve().parent if named else None


def needs_postgresql() -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    if _programs() is None:
        pytest.skip("PostgreSQL is not installed")


class PostgreSQL:
    """In a folder of its own; as another user where the tests run as root, as it insists on."""

    def __init__(self) -> None:
        programs = _programs()
        assert programs is not None
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="gossamer-"))
        self._user = "nobody" if os.getuid() == 0 else None
        if self._user:
            os.chown(self._folder, pwd.getpwnam(self._user).pw_uid, -1)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        subprocess.run(
            [programs / "initdb", "-D", self._data, "-U", "gossamer", "-A", "trust", "-N"],
            check=True,
            capture_output=True,
            user=self._user,
            cwd="/",
        )
        self.start()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def url(self) -> str:
        return f"postgresql://gossamer@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Until it answers; what a killed one left may still be ending."""
        deadline = time.monotonic() + 60
        while True:
            self._process = subprocess.Popen(
                [
                    *(self._programs / "postgres", "-D", self._data, "-p", str(self._port)),
                    *("-h", "127.0.0.1", "-k", self._folder, "-c", "fsync=off"),
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                user=self._user,
                cwd="/",
            )
            while self._process.poll() is None:
                ready = subprocess.run(
                    [self._programs / "pg_isready", "-h", "127.0.0.1", "-p", str(self._port)],
                    capture_output=True,
                    check=False,
                )
                if ready.returncode == 0:
                    return
                time.sleep(0.1)
            assert time.monotonic() < deadline, "PostgreSQL does not start"
            time.sleep(0.2)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
