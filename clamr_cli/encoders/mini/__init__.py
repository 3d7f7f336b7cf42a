"""The embedded encoder; see MODEL_CARD.md beside this file."""
