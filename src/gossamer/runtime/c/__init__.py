"""Networks as C (see ``source``)."""
