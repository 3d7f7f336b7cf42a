"""Synthetic queries, each aimed at one modality: what MultiVENT 2.0++ consists of, from the videos of any index.

A language model is shown one modality of a video (its title for a base query) and ten example queries of that kind,
and writes one query that would help someone find the video (CLaMR, section on MultiVENT 2.0++).
"""
