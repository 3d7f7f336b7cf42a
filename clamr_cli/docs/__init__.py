"""Guides and reference pages, which ``clamr help TOPIC`` shows."""
