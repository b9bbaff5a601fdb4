"""Wheels: a series grafted onto an official wheel, or built from source, and the proof of the result."""
