"""The HTTP server, for this machine only, and read-only unless writing is enabled."""

from __future__ import annotations

import contextlib
import logging
import re
import urllib.parse
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gossamer.dashboard.answer import Answer, Refused, wrong
from gossamer.dashboard.cache import Unreadable
from gossamer.dashboard.hosts import HERE, is_here
from gossamer.dashboard.page import static
from gossamer.dashboard.sites import Sites
from gossamer.dashboard.thresholds import thresholds_sent
from gossamer.errors import UserError

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
_FOREIGN = {"Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'"}
_LARGEST_BODY = 100_000
_LENGTH = re.compile(r"[0-9]{1,6}")  # isdigit() takes other scripts' digits, int() not 5,000

_log = logging.getLogger(__name__)


class Handler(BaseHTTPRequestHandler):
    """The handler of one connection."""

    protocol_version = "HTTP/1.1"
    server_version = "gossamer"
    sys_version = ""
    timeout = 60
    server: Server

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_HEAD(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        pass  # the terminal shows the address, not every poll

    def _answer(self, find: Callable[[], Answer]) -> None:
        try:
            self._check_host()
            answer = find()
        except Refused as refused:
            answer = wrong(refused.status, str(refused))
        except UserError as error:
            answer = wrong(HTTPStatus.BAD_REQUEST, str(error))
        except Unreadable as error:
            answer = wrong(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except (ConnectionError, TimeoutError):
            raise  # nobody is left to answer
        except Exception as error:
            # Without an answer the page would only see a lost connection.
            _log.exception("%s %s", self.command, self.path)
            self.close_connection = True
            fault = f"fault of the dashboard: {type(error).__name__}: {error}"
            answer = wrong(HTTPStatus.INTERNAL_SERVER_ERROR, fault)
        with contextlib.suppress(ConnectionError):  # a page that was closed meanwhile
            self._send(answer)

    def _check_host(self) -> None:
        host = self.headers.get("Host", "")
        if not is_here(host):
            self.close_connection = True  # a body that is not read would be the next request
            raise Refused(
                HTTPStatus.FORBIDDEN,
                f"this page is served as localhost only, not as '{host}'",
            )

    def _get(self) -> Answer:
        try:
            address = urllib.parse.urlsplit(self.path)
        except ValueError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, f"no usable address: {error}") from None
        if address.path in ("/plotly.js", "/page.js", "/overview.js", "/page.css"):
            return static(address.path[1:])
        site, path = self.server.sites.at(address.path)
        match path:
            case "/":
                return self.server.sites.overview() if site is None else site.page()
            case "/api/view" if site is not None:
                return site.view(address.query)
            case "/api/plots" | "/api/trials" | "/export.csv" | "/export.json" if site is not None:
                return site.listed(path, address.query)
            case "/api/slow" if site is not None:
                return site.slow()
            case _ if site is not None and path.startswith("/files/"):
                return site.file(path.removeprefix("/files/"))
        raise Refused(HTTPStatus.NOT_FOUND, f"there is no {address.path}")

    def _post(self) -> Answer:
        # Whatever was sent must be read, or it would be taken for the next request.
        length = self.headers.get("Content-Length", "")
        if not _LENGTH.fullmatch(length) or int(length) > _LARGEST_BODY:
            self.close_connection = True
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body's length is not usable")
        body = self.rfile.read(int(length))
        site, path = self.server.sites.at(self.path)
        if site is None or path != "/api/thresholds":
            raise Refused(HTTPStatus.NOT_FOUND, f"nothing can be sent to {self.path}")
        if not site.write:
            raise Refused(
                HTTPStatus.FORBIDDEN,
                "this page only reads; start it with --write to store thresholds",
            )
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{self.headers['Host']}":
            raise Refused(HTTPStatus.FORBIDDEN, f"not from a page of '{origin}'")
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send application/json")
        site.cache.set_thresholds(thresholds_sent(body))
        return site.view("")

    def _send(self, answer: Answer) -> None:
        known = answer.etag is not None and self.headers.get("If-None-Match") == answer.etag
        self.send_response(HTTPStatus.NOT_MODIFIED if known else answer.status)
        for name, content in (_HEADERS | (_FOREIGN if answer.foreign else {})).items():
            self.send_header(name, content)
        # Chromium keeps a script's compiled code only as long as it need not ask for it again.
        caching = "private, max-age=31536000, immutable" if answer.lasting else "no-cache"
        self.send_header("Cache-Control", caching)
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


class Server(ThreadingHTTPServer):
    """The HTTP server of the sites at a port of this machine."""

    daemon_threads = True
    request_queue_size = 1024  # a full queue costs whoever comes next seconds
    # Two dashboards on one port would take turns in answering.
    allow_reuse_port = False

    def __init__(self, sites: Sites, port: int) -> None:
        self.sites = sites
        super().__init__((HERE, port), Handler)
