"""Training stages, one runnable module each: `python -m training.stages.<stage> --help`."""
