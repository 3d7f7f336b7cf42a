"""Measures of how well queries find their answers."""
