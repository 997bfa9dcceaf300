"""Writes a network as one C99 file, for machines where no runtime fits."""

from gossamer.runtime.c.source import to_c

__all__ = ["to_c"]
