"""Waiting for what another process does."""

import time


def wait_for(condition, what):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"waited a minute in vain for {what}")
