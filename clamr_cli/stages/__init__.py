"""The work of indexing one video, cut into tasks that run in worker processes.

``tasks`` holds the generator functions; ``spool`` is the folder through which a decoding task hands pictures and sound
to the recognising ones, so that hours of them never lie in memory.
"""
