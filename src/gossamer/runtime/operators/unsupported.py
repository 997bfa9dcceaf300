"""Exceptions of the importer."""


class Unsupported(Exception):
    """A setting that the engine lacks; the message says which and what would help."""
