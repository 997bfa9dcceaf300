"""The dashboard of an experiment or of several, served until closed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from gossamer.dashboard.cache import Unreadable, stored_at
from gossamer.dashboard.handler import Server
from gossamer.dashboard.hosts import HERE
from gossamer.dashboard.optuna_dashboard import optuna_dashboard
from gossamer.dashboard.page import static
from gossamer.dashboard.sites import Sites
from gossamer.errors import UserError


class Dashboard:
    """A server of an experiment's page, or of an overview and the pages of several.

    Args:
        source: an experiment's TOML file, or the address of its storage.
        name: show only this experiment, if the storage has several.
        port: port on this machine; 0 takes any free one.
        write: whether the page may store thresholds, which change a running search.

    Raises:
        UserError: no such experiment, or the port is taken.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        name: str | None = None,
        port: int = 0,
        write: bool = False,
    ) -> None:
        try:
            sites = Sites(source, name, write)
            sites.warm_up()  # all trials at once; from then on only what is new
        except Unreadable as error:
            raise UserError(str(error)) from None
        try:
            self._server = Server(sites, port)
            static("plotly.js")  # now, not while the page waits
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"port {port}: {reason}; choose another with --port") from None

    @property
    def address(self) -> str:
        return f"http://{HERE}:{self._server.server_address[1]}/"

    def serve(self) -> None:
        """Answer requests until an interrupt, or until `close` is called from another thread."""
        self._server.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._server.sites.close()


def dashboard(
    source: str | os.PathLike[str],
    name: str | None = None,
    port: int = 8080,
    write: bool = False,
    optuna: bool = False,
    opened: Callable[..., None] = print,
) -> None:
    """Serve the page until interrupted.

    Args:
        source, name, port, write: see `Dashboard`.
        optuna: also serve optuna-dashboard, at any free port.
        opened: called with the page's address, and optuna-dashboard's, when they are ready.

    Raises:
        UserError: see `Dashboard`; or ``optuna`` is set and optuna-dashboard is not installed.
    """
    page = Dashboard(source, name, port, write)
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        addresses = [page.address]
        if optuna:
            storage = stored_at(source)
            addresses.append(stack.enter_context(optuna_dashboard(storage, write)))
        opened(*addresses)
        page.serve()
