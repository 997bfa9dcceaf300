"""A live page of an experiment, or of several side by side, served to this machine only."""

from gossamer.dashboard.server import Dashboard, dashboard

__all__ = ["Dashboard", "dashboard"]
__dir__ = __all__.copy
