"""Files in, values out: finding videos, telling them apart, probing them, and reading frames, sound and subtitles."""
