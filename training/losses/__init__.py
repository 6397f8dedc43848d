"""Objectives: pure functions of tensors, one file an idea."""
