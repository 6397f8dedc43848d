"""Figures of quality: pure functions of arrays. `python -m training.metrics PACK CORPUS` prints the table of a pack."""
