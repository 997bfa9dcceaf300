"""The search space: parameters, constraints between them, and points."""
