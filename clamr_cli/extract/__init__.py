"""Text out of a video: what is said, what is written on screen, and what is noted about it. Values in, Segments out."""
