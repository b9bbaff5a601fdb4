"""Figures of fidelity and of tasks: pure functions on arrays and counts."""
