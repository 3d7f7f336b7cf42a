"""From files to searchable moments."""
