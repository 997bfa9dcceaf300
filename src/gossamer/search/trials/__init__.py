"""Trials, what they return, and the databases that hold them."""
