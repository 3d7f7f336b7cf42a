"""Questions about one video, answered by a vision-language model from frames and lines that were chosen for them."""

from clamr_cli.ask.asking import Answer, ask
from clamr_cli.ask.citations import Citation
from clamr_cli.ask.material import Line, Material, Shot, in_time, lines_near
from clamr_cli.ask.prompts import LETTERS, PROMPT_VERSION, Question, checked, prompt_for

__all__ = [
    "LETTERS",
    "PROMPT_VERSION",
    "Answer",
    "Citation",
    "Line",
    "Material",
    "Question",
    "Shot",
    "ask",
    "checked",
    "in_time",
    "lines_near",
    "prompt_for",
]
