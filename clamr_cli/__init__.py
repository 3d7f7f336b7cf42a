"""clamr: search a folder of videos by what is seen, said, written on screen and noted about it."""

__version__ = "0.1.0"
