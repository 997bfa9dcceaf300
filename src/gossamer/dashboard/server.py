"""The web server: this machine only, reading only unless writing was asked for."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs, get_plotlyjs_version

import gossamer
from gossamer.dashboard import view
from gossamer.dashboard.beside import optuna_dashboard
from gossamer.dashboard.hosts import HERE, is_here
from gossamer.dashboard.snapshot import Snapshot
from gossamer.dashboard.watch import Unreadable, Watch, open_stored, stored_at
from gossamer.errors import UserError
from gossamer.report import plots
from gossamer.report.study import study

# Parallel coordinates are drawn by WebGL programs that plotly.js makes from text.
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_LARGEST_BODY = 100_000
_JSON = "application/json; charset=utf-8"

# The report's colours on dark ground: ink, lines, and marks that would be too dark.
DARK = {
    plots.INK: "#e6eaf0",
    plots.GRID: "#2a3340",
    "#cbd2d9": "#455163",
    plots.INSIDE: "#4dabf7",
    plots.FRONTIER: "#a5d8ff",
    plots.OUTSIDE: "#6f7b8b",
    plots.LIMIT: "#ff6b6b",
    plots.SHADE: "rgba(255, 107, 107, 0.10)",
    "rgba(11, 61, 145, 0.08)": "rgba(165, 216, 255, 0.12)",
    "rgba(255,255,255,0.85)": "rgba(23,29,38,0.85)",
    "#c3cad3": "#465263",
}


@dataclass(frozen=True)
class _Answer:
    body: bytes
    kind: str
    etag: str | None = None
    status: HTTPStatus = HTTPStatus.OK
    filename: str | None = None
    lasting: bool = False  # its address changes with its content


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def _etag(*parts: object) -> str:
    return '"' + hashlib.sha256(repr(parts).encode()).hexdigest()[:20] + '"'


@functools.cache
def _static(name: str) -> _Answer:
    if name == "plotly.js":
        body, kind = get_plotlyjs().encode(), "text/javascript; charset=utf-8"
    else:
        body = (resources.files(__package__) / "templates" / name).read_bytes()
        kind = f"text/{'css' if name.endswith('.css') else 'javascript'}; charset=utf-8"
    return _Answer(body, kind, _etag(body), lasting=name == "plotly.js")


def thresholds_asked(query: str) -> dict[str, float | None]:
    """Thresholds of a query such as ``threshold.accuracy=0.9&threshold.density=``.

    An empty one means none.

    Raises:
        UserError: for what is no number; also for any other key.
    """
    found: dict[str, float | None] = {}
    for key, text in urllib.parse.parse_qsl(query, keep_blank_values=True):
        name = key.removeprefix("threshold.")
        if name == key:
            raise UserError(f"unknown key '{key}' in the address; known: threshold.METRIC")
        try:
            found[name] = float(text) if text.strip() else None
        except ValueError:
            raise UserError(f"threshold of '{name}' must be a number, not '{text}'") from None
    return found


def _thresholds_given(body: bytes) -> dict[str, float | None]:
    """Thresholds of a JSON object of metric name to number or null."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise UserError("the body is not JSON; send an object of metric to threshold") from None
    if not isinstance(given, dict) or not given:
        raise UserError("send a JSON object of metric to threshold, with at least one")
    return given


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "gossamer"
    sys_version = ""
    timeout = 60
    server: _Server

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_HEAD(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        pass  # the terminal shows the address, not every poll

    def _answer(self, find: Callable[[], _Answer]) -> None:
        try:
            self._check_host()
            answer = find()
        except _Refused as refused:
            answer = _wrong(refused.status, str(refused))
        except UserError as error:
            answer = _wrong(HTTPStatus.BAD_REQUEST, str(error))
        except Unreadable as error:
            answer = _wrong(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        with contextlib.suppress(ConnectionError):  # a page that was closed meanwhile
            self._send(answer)

    def _check_host(self) -> None:
        host = self.headers.get("Host", "")
        if not is_here(host):
            raise _Refused(
                HTTPStatus.FORBIDDEN,
                f"this page is served as localhost only, not as '{host}'",
            )

    def _get(self) -> _Answer:
        address = urllib.parse.urlsplit(self.path)
        match address.path:
            case "/":
                return self.server.page()
            case "/plotly.js" | "/page.js" | "/page.css":
                return _static(address.path[1:])
            case "/api/view":
                return self.server.view(address.query)
            case "/api/plots" | "/api/trials" | "/export.csv" | "/export.json":
                return self.server.listed(address.path, address.query)
            case "/api/importances":
                return self.server.importances()
        raise _Refused(HTTPStatus.NOT_FOUND, f"there is no {address.path}")

    def _post(self) -> _Answer:
        # Whatever was sent must be read, or it would be taken for the next request.
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _LARGEST_BODY:
            self.close_connection = True
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body's length is not usable")
        body = self.rfile.read(int(length))
        if self.path != "/api/thresholds":
            raise _Refused(HTTPStatus.NOT_FOUND, f"nothing can be sent to {self.path}")
        if not self.server.write:
            raise _Refused(
                HTTPStatus.FORBIDDEN,
                "this page only reads; start it with --write to store thresholds",
            )
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{self.headers['Host']}":
            raise _Refused(HTTPStatus.FORBIDDEN, f"not from a page of '{origin}'")
        if self.headers.get_content_type() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send application/json")
        self.server.watch.set_thresholds(_thresholds_given(body))
        return self.server.view("")

    def _send(self, answer: _Answer) -> None:
        known = answer.etag is not None and self.headers.get("If-None-Match") == answer.etag
        self.send_response(HTTPStatus.NOT_MODIFIED if known else answer.status)
        for name, content in _HEADERS.items():
            self.send_header(name, content)
        # Chromium keeps a script's compiled code only as long as it need not ask for it again.
        kept = "private, max-age=31536000, immutable" if answer.lasting else "no-cache"
        self.send_header("Cache-Control", kept)
        if answer.etag is not None:
            self.send_header("ETag", answer.etag)
        if answer.filename is not None:
            self.send_header("Content-Disposition", f'attachment; filename="{answer.filename}"')
        if not known:
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if not known and self.command != "HEAD":
            self.wfile.write(answer.body)


def _wrong(status: HTTPStatus, message: str) -> _Answer:
    return _Answer(view.as_json({"error": message}), _JSON, status=status)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Two dashboards on one port would take turns in answering.
    allow_reuse_port = False

    def __init__(self, watch: Watch, port: int, write: bool) -> None:
        self.watch = watch
        self.write = write
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("gossamer.dashboard", "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        super().__init__((HERE, port), _Handler)

    def page(self) -> _Answer:
        text = self._templates.get_template("page.html.j2").render(
            name=self.watch.experiment.name,
            write=self.write,
            dark=json.dumps(DARK),
            version=gossamer.__version__,
            plotly=get_plotlyjs_version(),
        )
        return _Answer(text.encode(), "text/html; charset=utf-8", _etag(text))

    def view(self, query: str) -> _Answer:
        stored, judged = self._snapshots(query)
        body = view.as_json(view.view(judged, stored))
        return _Answer(body, _JSON, _etag(stored.version, query))

    def listed(self, path: str, query: str) -> _Answer:
        stored, judged = self._snapshots(query)
        etag = _etag(stored.version, path, query)
        if path == "/api/plots":
            return _Answer(view.as_json(view.below(judged)), _JSON, etag)
        if path == "/api/trials":
            return _Answer(view.as_json(view.trials(judged)), _JSON, etag)
        safe = "".join(c if c.isascii() and c.isalnum() else "-" for c in stored.name)
        if path == "/export.csv":
            return _Answer(
                view.export_csv(judged), "text/csv; charset=utf-8", etag, filename=f"{safe}.csv"
            )
        return _Answer(view.export_json(judged), _JSON, etag, filename=f"{safe}.json")

    def importances(self) -> _Answer:
        shares, of, coming = self.watch.importances()
        drawn = view.importances(study(self.watch.read()), shares)
        body = view.as_json({"plots": drawn, "of": of, "coming": coming})
        return _Answer(body, _JSON, _etag(of, coming))

    def _snapshots(self, query: str) -> tuple[Snapshot, Snapshot]:
        stored = self.watch.read()
        return stored, stored.judged_by(thresholds_asked(query))


class Dashboard:
    """The page of one experiment, at `address` until closed.

    Args:
        source: an experiment's TOML file, or the address of its storage.
        name: of the experiment, where a storage has several.
        port: on this machine; 0 takes any that is free.
        write: whether the page may store thresholds, which steer a search that runs.

    Raises:
        UserError: when there is no such experiment, or the port is taken.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        name: str | None = None,
        port: int = 0,
        write: bool = False,
    ) -> None:
        watch = Watch(open_stored(source, name))
        try:
            watch.read()  # all trials at once; from then on only what is new
        except Unreadable as error:
            raise UserError(str(error)) from None
        try:
            self._server = _Server(watch, port, write)
            self._server.view("")  # plotly's modules are loaded now, not while the page waits
            _static("plotly.js")
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"port {port}: {reason}; choose another with --port") from None

    @property
    def address(self) -> str:
        return f"http://{HERE}:{self._server.server_address[1]}/"

    def serve(self) -> None:
        """Answers until `close` is called from another thread, or interrupted."""
        self._server.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._server.watch.close()


def dashboard(
    source: str | os.PathLike[str],
    name: str | None = None,
    port: int = 8080,
    write: bool = False,
    optuna: bool = False,
    opened: Callable[..., None] = print,
) -> None:
    """Serves the page until interrupted.

    Args:
        source, name, port, write: as `Dashboard` takes them.
        optuna: serve optuna-dashboard too, at any free port.
        opened: is called with the page's address, and optuna-dashboard's, once they answer.

    Raises:
        UserError: as `Dashboard` does, and without optuna-dashboard where it is asked for.
    """
    page = Dashboard(source, name, port, write)
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        addresses = [page.address]
        if optuna:
            storage = stored_at(source)
            addresses.append(stack.enter_context(optuna_dashboard(storage, 0, write)))
        opened(*addresses)
        page.serve()
