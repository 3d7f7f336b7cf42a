"""What an endpoint's replies say: the answer in them, their complaint, and when to come back."""

from __future__ import annotations

import email.utils
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from clamr_cli.llm.writer import AnswerError

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_COMPLAINT: Final = 200


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as it came: status, body, and headers by lower-case name."""

    status: int
    content: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


def answer_of(value: Any) -> str:  # noqa: ANN401 -- whatever the endpoint sent
    """The text of a chat/completions object's first choice.

    Raises:
        AnswerError: there is none, or it is empty.
    """
    try:
        choice = value["choices"][0]
        message = choice["message"]
        content = message.get("content")
        refusal = message.get("refusal")
        ended = choice.get("finish_reason")
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise AnswerError(f"the endpoint's answer has no message{_error_inside(value)}") from error
    text = _text(content)
    if text.strip():
        return text
    if isinstance(refusal, str) and refusal.strip():
        raise AnswerError(f"the model refuses: {_short(refusal)}")
    if ended == "length":
        raise AnswerError("the answer is empty: the model was cut off while it was thinking")
    raise AnswerError("the answer is empty")


def object_of(reply: Reply) -> Any:  # noqa: ANN401 -- whatever the endpoint sent
    """The object that a reply holds, put together where the endpoint streams though it was not asked to.

    Raises:
        ValueError, RecursionError: it holds none.
    """
    if not reply.headers.get("content-type", "").startswith("text/event-stream"):
        return json.loads(reply.content)
    lines = reply.content.decode("utf-8").splitlines()
    told = (line.removeprefix("data:").strip() for line in lines if line.startswith("data:"))
    pieces = [json.loads(one) for one in told if one and one != "[DONE]"]
    if failed := [piece for piece in pieces if isinstance(piece, dict) and "error" in piece]:
        return failed[0]
    return {"choices": [_joined([one for piece in pieces for one in _choices(piece)])]}


def _choices(piece: Any) -> list[Any]:  # noqa: ANN401
    choices = piece.get("choices") if isinstance(piece, dict) else None
    return [one for one in choices if isinstance(one, dict)] if isinstance(choices, list) else []


def _joined(choices: list[Any]) -> dict[str, Any]:
    """The choice that the pieces of a stream make, those of the first one alone."""
    first = [one for one in choices if not one.get("index")]
    deltas = [one["delta"] for one in first if isinstance(one.get("delta"), dict)]
    if not deltas:
        raise ValueError("nothing was streamed")
    ended = next((one["finish_reason"] for one in first if one.get("finish_reason")), None)
    message = {name: "".join(_text(delta.get(name)) for delta in deltas) for name in ("content", "refusal")}
    return {"message": message, "finish_reason": ended}


def complaint(reply: Reply) -> str:
    """What a failed reply says, in one line of at most 200 characters; empty where it says nothing."""
    try:
        value = json.loads(reply.content)
    except (ValueError, RecursionError):
        text = reply.content[:2000].decode("utf-8", "replace").strip()
        # A page for people says less than its status does.
        return "" if text.startswith("<") else _short(text)
    return _short(_message(value) or "")


def retry_after(reply: Reply, now: float) -> float | None:
    """Seconds to wait as the reply asks (RFC 9110, section 10.2.3: seconds or a date); None where it does not.

    Args:
        reply: any reply.
        now: seconds since the epoch.
    """
    asked = reply.headers.get("retry-after", "").strip()
    if not asked:
        return None
    try:
        wait = float(asked)
    except ValueError:
        try:
            wait = email.utils.parsedate_to_datetime(asked).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, wait) if math.isfinite(wait) else None


def _text(content: object) -> str:
    """The text of a message: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return ""


def _message(value: object, depth: int = 0) -> str | None:
    """The first thing in an error object that reads like a message."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return next((found for one in value[:5] if depth < 4 and (found := _message(one, depth + 1))), None)
    if isinstance(value, dict) and depth < 4:
        named = [value[name] for name in ("error", "message", "detail", "msg", "error_description") if name in value]
        found = next((found for one in named if (found := _message(one, depth + 1))), None)
        param = value.get("param") or value.get("loc")
        if found and isinstance(param, str) and param not in found:
            return f"{param}: {found}"
        if found and isinstance(param, list):
            return f"{'.'.join(map(str, param))}: {found}"
        return found
    return None


def _error_inside(value: object) -> str:
    said = _message(value) if isinstance(value, dict) and "error" in value else None
    return f": {_short(said)}" if said else ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_COMPLAINT else line[: _LONGEST_COMPLAINT - 1] + "…"
