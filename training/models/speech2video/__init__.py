"""Speech2Video (cross-modal distillation for speech to video generation) as published; docs/speech2video.md."""
