"""Questions about one video, answered by a vision-language model from frames and lines that were chosen for them."""

from clamr_cli.ask.answer import Answer, Citation, ask
from clamr_cli.ask.prompt import LETTERS, PROMPT_VERSION, Line, Material, Question, lines_near, prompt_for, smaller

__all__ = [
    "LETTERS",
    "PROMPT_VERSION",
    "Answer",
    "Citation",
    "Line",
    "Material",
    "Question",
    "ask",
    "lines_near",
    "prompt_for",
    "smaller",
]
