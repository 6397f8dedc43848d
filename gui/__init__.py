"""The desktop app: see the face, set its mood, be on the call. PyQt6 lives here and nowhere else."""
