"""What the importer raises while it reads."""


class Unsupported(Exception):
    """A setting that the engine lacks; the message says which and what would help."""
