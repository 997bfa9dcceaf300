"""For all tests."""

from hypothesis import settings

# How long an example takes says something of the machine's load, not of the code.
settings.register_profile("gossamer", deadline=None)
settings.load_profile("gossamer")
