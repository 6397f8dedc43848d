"""Everything that learns: the corpus of synthetic people, models, losses, stages, metrics."""
