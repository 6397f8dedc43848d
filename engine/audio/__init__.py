"""Sound in and out: the ring, capture from a microphone or a file, the delayed monitor."""
