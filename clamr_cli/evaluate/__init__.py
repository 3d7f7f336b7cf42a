"""How well queries find their answers."""
