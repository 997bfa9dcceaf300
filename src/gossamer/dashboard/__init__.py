"""A live page of one or several experiments, served to this machine only."""

from gossamer.dashboard.server import Dashboard, dashboard

__all__ = ["Dashboard", "dashboard"]
__dir__ = __all__.copy
