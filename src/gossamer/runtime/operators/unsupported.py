"""The importer's exception."""


class Unsupported(Exception):
    """A feature that the engine lacks; the message names it and says what would help."""
