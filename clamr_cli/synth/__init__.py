"""Synthetic queries, each aimed at one modality."""
