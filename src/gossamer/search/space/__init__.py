"""What is searched: parameters, constraints between them, and points."""
