"""Quantize through ModelOpt's library what `hf_ptq.py` quantizes, for machines that have only the wheel."""
