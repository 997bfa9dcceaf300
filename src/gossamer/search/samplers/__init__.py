"""Samplers, which choose the next point, and their models."""
