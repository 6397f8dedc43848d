"""Where frames go: the slot between threads, the virtual camera, the recorder, or nowhere."""
