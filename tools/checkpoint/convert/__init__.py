"""From ModelOpt's INT8 SmoothQuant to compressed-tensors, with the smoothing folded away."""
