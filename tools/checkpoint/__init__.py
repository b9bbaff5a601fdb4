"""Quantize a model with ModelOpt, check what was exported, convert it for servers."""
