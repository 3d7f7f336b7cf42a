"""The main job on clips that the package makes itself: see :func:`run`."""
