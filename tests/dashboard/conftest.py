"""A searched experiment in a database, and its page being served."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gossamer.dashboard import Dashboard
from gossamer.search import Choice, Experiment, Float, Maximize, Minimize

# accuracy, density of each trial; trial 4 fails, trial 5 still runs
TOLD = [(0.90, 0.10), (0.95, 0.20), (0.97, 0.30), (0.93, 0.25)]


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("searched") / "some.db"
    experiment = Experiment(
        "some <b>trials</b>",
        [Float("rate", 0.01, 1.0, log=True), Choice("rule", ["set", "rigl"])],
        [Maximize("accuracy", 0.92), Minimize("density", 0.35)],
        budget=10,
        storage=f"sqlite:///{path}",
        sampler="random",
    )
    for accuracy, density in TOLD:
        experiment.tell(experiment.ask(), {"accuracy": accuracy, "density": density, "loss": 0.5})
    experiment.tell(experiment.ask(), error="ValueError: loss, it is\nnan")
    experiment.ask()
    return path


@pytest.fixture
def storage(database: Path, tmp_path: Path) -> str:
    """The address of a copy of its own."""
    return f"sqlite:///{shutil.copy(database, tmp_path / 'copy.db')}"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Page:
    """Asks a dashboard as a browser would, or as one should not."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.host = address.removeprefix("http://").rstrip("/")

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, None, headers)

    def post(self, path: str, body: object, **headers: str) -> Answer:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", path, text, {"Content-Type": "application/json", **headers})

    def ask(self, how: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            named = {name.replace("_", "-"): text for name, text in headers.items()}
            connection.request(how, path, body, named)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.headers), answer.read())
        finally:
            connection.close()


@contextmanager
def serving(source: str, **options: Any) -> Iterator[Page]:
    made = Dashboard(source, **options)
    thread = threading.Thread(target=made.serve)
    thread.start()
    try:
        yield Page(made.address)
    finally:
        made.close()
        thread.join()


@pytest.fixture
def page(storage: str) -> Iterator[Page]:
    with serving(storage) as served:
        yield served


@pytest.fixture
def writing(storage: str) -> Iterator[Page]:
    with serving(storage, write=True) as served:
        yield served


@pytest.fixture
def serve() -> Callable[..., Any]:
    return serving


@pytest.fixture
def visit() -> Callable[[str], Page]:
    return Page
