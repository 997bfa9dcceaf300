"""Running trials: the loop, worker processes, Ray, commands, progress and logs."""
