"""Quantize, check, serve, compare, report: the chain that the two series exist for."""
