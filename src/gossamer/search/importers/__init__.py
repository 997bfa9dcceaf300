"""Trials of other tools: CSV, Optuna, Ax, W&B and MLflow."""
