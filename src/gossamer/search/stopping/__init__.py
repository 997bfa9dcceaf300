"""Trials that end early: learning curves, stopping rules, cheaper fidelities."""
