"""Proofs: accumulator widths from intervals, requantizers from exact comparisons."""
