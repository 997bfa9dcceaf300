"""Lets the tests of this room import ``compiled`` and the runtime's ``networks``."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "runtime")]
