"""Scenarios and results: frozen values, parsed at the border."""
