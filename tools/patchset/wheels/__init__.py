"""Wheels: grafting a series onto an official wheel, building from source, and proving the result."""
