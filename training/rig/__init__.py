"""The synthetic talking head: face model, look, renderer, speech, performance and corpus."""
