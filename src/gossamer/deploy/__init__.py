"""From a trained network to one that runs: ``compile`` for torch modules, ``bench`` against peers.

This room joins ``nn`` (torch, export) and ``runtime`` (no torch); neither imports it.
"""

from gossamer.deploy.bench import Contestant, Result, bench, engine_times
from gossamer.deploy.compiling import compile
from gossamer.deploy.peers import PEERS

__all__ = ["PEERS", "Contestant", "Result", "bench", "compile", "engine_times"]
