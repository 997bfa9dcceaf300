"""Generation of C code from networks (see ``source``)."""
