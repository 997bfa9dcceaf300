"""Which point to try next."""
