"""Execution of trials: the loop, worker processes, Ray, commands, progress bar and loggers."""
