"""The published tables in form: what the systems draw, how it is judged, and how it is printed."""
