"""From checkpoints to packs, and from packs to the fastest form a machine can run: export, parity, speed, precision,
TensorRT.
"""
