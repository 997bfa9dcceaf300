"""Early stopping: learning curves, stopping rules and cheaper fidelities."""
