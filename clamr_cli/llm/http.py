"""Answers of any endpoint that speaks the chat/completions protocol of OpenAI: hosted, or a server at home.

Pictures go as base64 data URLs in ``image_url`` parts (https://platform.openai.com/docs/api-reference/chat).
"""

from __future__ import annotations

import base64
import ipaddress
import itertools
import random
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx2

from clamr_cli.errors import ModelError, UsageError
from clamr_cli.llm.replies import Reply, answer_of, complaint, object_of, retry_after
from clamr_cli.llm.writer import AnswerError, Picture, PicturesRefused, PicturesTooMuch, characters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clamr_cli.llm.writer import Message, Part, Prompt

_PASSING: Final = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
_LONGEST_ANSWER: Final = 4 << 20
_LONGEST_WAIT: Final = 120.0
_ABOUT_PICTURES: Final = re.compile(r"\b(image|vision|multi-?modal|modalit|picture|image_url)", re.IGNORECASE)
_TOO_MUCH: Final = re.compile(
    r"at most \d+ image|too many (?:images|tokens)|number of images|context (?:length|window|size)"
    r"|too (?:long|large|big|many)"
    r"|(?:image|picture|pixel|dimension|resolution).{0,60}(?:exceed|maximum|limited to|at most|less than|smaller than)"
    r"|(?:exceed|maximum).{0,60}(?:image|pixel)",
    re.IGNORECASE,
)
_MOST: Final = re.compile(r"at most (\d{1,4}) image|too many images\b.{0,40}?\b(?:is|of|>) (\d{1,4})", re.IGNORECASE)
_UNKNOWN_FIELD: Final = re.compile(
    r"unsupported|unknown|unrecogni[sz]ed|not (?:supported|permitted|allowed)|extra (?:inputs|fields)|does not support",
    re.IGNORECASE,
)
_DISPENSABLE: Final = ("seed", "temperature", "max_tokens", "max_completion_tokens")


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How to talk to an endpoint.

    Attributes:
        key: sent as a bearer token; empty for none.
        timeout: seconds until a whole answer must be there.
        retries: how often a prompt is sent again after trouble that may pass; after silence for the whole time, once.
        workers: prompts under way at once.
        max_tokens: longest answer; ample for a query, with room for models that think first.
        patience: seconds before the first retry; each further one waits twice as long.
        fewer: what the user can do where the pictures are too many or too large.
    """

    key: str = ""
    timeout: float = 60.0
    retries: int = 4
    workers: int = 4
    max_tokens: int = 1024
    patience: float = 0.5
    fewer: str = "show fewer pictures"


class _Passing(Exception):
    """Trouble that may be over when the prompt is sent again."""

    def __init__(
        self,
        what: str,
        after: float | None = None,
        *,
        unreachable: bool = False,
        slower: bool = False,
        silent: bool = False,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.after = after
        self.unreachable = unreachable
        self.silent = silent
        self.factor = 10.0 if slower and after is None else 1.0


class HttpWriter:
    """A writer behind a URL.

    Args:
        base_url: what comes before ``/chat/completions``, e.g. ``http://localhost:8000/v1``.
        model: the name the endpoint has for the model.
        options: see :class:`HttpOptions`.

    Raises:
        UsageError: no http or https address.
    """

    def __init__(self, base_url: str, model: str, options: HttpOptions | None = None) -> None:
        self.name = model
        self.sees: bool | None = None
        self.notes: list[str] = []
        self._options = options or HttpOptions()
        self.workers = self._options.workers
        self._url = endpoint(base_url)
        self._shown = str(self._url.copy_with(username=None, password=None, query=None))
        self._adapting = threading.Lock()
        self._left_out: frozenset[str] = frozenset()
        self._reached = False
        self._closed = threading.Event()
        headers = {"User-Agent": "clamr"}
        if self._options.key:
            headers["Authorization"] = f"Bearer {self._options.key}"
        limits = httpx2.Limits(max_connections=self.workers + 1)
        # A proxy of the environment is for the world outside; a server on this machine is not there.
        outside = not _is_here(self._url.host)
        self._client = httpx2.Client(headers=headers, limits=limits, timeout=self._options.timeout, trust_env=outside)

    def write(self, prompt: Prompt) -> str:
        """See :class:`clamr_cli.llm.writer.Writer`."""
        jitter = random.Random(prompt.seed)  # noqa: S311 -- no secret
        for attempt in itertools.count():
            try:
                return self._settled(prompt)
            except _Passing as trouble:
                if trouble.unreachable and not self._reached:
                    hint = "start the server, or check --base-url"
                    raise ModelError(f"nothing answers at {self._shown} ({trouble.what})", hint) from trouble
                wait = self._options.patience * trouble.factor * 2**attempt * jitter.uniform(0.75, 1.25)
                wait = max(wait, trouble.after or 0.0)
                # Whoever said nothing for the whole time probably works on an answer that takes longer.
                tries = min(self._options.retries, 1) if trouble.silent else self._options.retries
                if attempt >= tries or wait > _LONGEST_WAIT:
                    told = f"{attempt + 1} tries" if attempt else "one try"
                    hint = "give it more with --timeout" if trouble.silent else ""
                    raise AnswerError(f"{trouble.what} (after {told})", hint) from trouble
                if self._closed.wait(wait):
                    raise AnswerError("the run was stopped") from trouble
        raise AssertionError  # itertools.count has no end

    def close(self) -> None:
        """See :class:`clamr_cli.llm.writer.Writer`."""
        self._closed.set()
        self._client.close()

    def _settled(self, prompt: Prompt) -> str:
        """An answer, after fields that the endpoint does not know were left out."""
        while True:
            body = self._body(prompt)
            reply = self._post(body)
            if reply.status == 200:
                if prompt.pictures:
                    self.sees = True
                return _answer(reply)
            unknown = _unknown_field(reply, body)
            if unknown is None:
                raise self._refusal(reply, prompt)
            self._leave_out(unknown)

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": characters(self.name),
            "messages": [chat_message(one) for one in prompt.messages],
        }
        fields = {"seed": prompt.seed, "temperature": prompt.temperature, "max_tokens": self._options.max_tokens}
        left_out = self._left_out
        body |= {name: value for name, value in fields.items() if name not in left_out}
        if "max_tokens" in left_out and "max_completion_tokens" not in left_out:
            body["max_completion_tokens"] = self._options.max_tokens
        return body

    def _post(self, body: Mapping[str, Any]) -> Reply:
        deadline = time.monotonic() + self._options.timeout
        try:
            with self._client.stream("POST", self._url, json=body) as response:
                self._reached = True
                content = bytearray()
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > _LONGEST_ANSWER:
                        raise AnswerError(f"the answer is longer than {_LONGEST_ANSWER >> 20} MiB")
                    # The client's own limit is for each read; one that sends a byte now and then would never end.
                    if time.monotonic() > deadline:
                        raise _Passing(f"no whole answer within {self._options.timeout:g} s", silent=True)
                return Reply(response.status_code, bytes(content), dict(response.headers))
        except httpx2.TimeoutException as error:
            unreachable = isinstance(error, httpx2.ConnectTimeout)
            told = f"no answer within {self._options.timeout:g} s"
            raise _Passing(told, unreachable=unreachable, silent=not unreachable) from error
        except httpx2.TransportError as error:
            raise _Passing(_one_line(error), unreachable=isinstance(error, httpx2.ConnectError)) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, RuntimeError) as error:
            # RuntimeError: the client was closed by an interruption.
            raise AnswerError(f"the request failed: {_one_line(error)}") from error

    def _refusal(self, reply: Reply, prompt: Prompt) -> Exception:
        """What a reply that is no answer means."""
        said = complaint(reply)
        what = f"the endpoint answers {reply.status}" + (f": {said}" if said else "")
        if prompt.pictures and (reply.status == 413 or (reply.status in (400, 422) and _TOO_MUCH.search(said))):
            return PicturesTooMuch(what, self._options.fewer, _most(said))
        # A model that is not there may be called after what it sees.
        about = _ABOUT_PICTURES.search(said) and (reply.status != 404 or "support" in said)
        if prompt.pictures and reply.status not in (401, 403, 429) and about:
            return PicturesRefused(what, "the model takes no pictures")
        if reply.status in (401, 403):
            return ModelError(f"{self._shown} refuses the key ({what})", "give it with --api-key-env")
        if reply.status in _PASSING:
            # Who is told to slow down without being told how long waits longer than for a hiccup.
            return _Passing(what, retry_after(reply, time.time()), slower=reply.status == 429)
        if 300 <= reply.status < 400:
            return ModelError(f"{self._shown} redirects to {reply.headers.get('location', '?')}", "use that --base-url")
        if reply.status == 404:
            return ModelError(f"{self._shown} knows no such page or model ({what})", "check --base-url and --model")
        return AnswerError(what)

    def _leave_out(self, name: str) -> None:
        with self._adapting:
            new = name not in self._left_out
            self._left_out = self._left_out | {name}
        if new and name in ("seed", "temperature"):
            self.notes.append(f"the endpoint takes no {name}: another run may give other answers")


def _unknown_field(reply: Reply, body: Mapping[str, Any]) -> str | None:
    """The field of a request that the endpoint complains of, if we can do without it.

    Of what was sent, not of what would be sent now: another thread may have left the field out meanwhile.
    """
    if reply.status not in (400, 422):
        return None
    said = complaint(reply)
    for name in _DISPENSABLE:
        if name in body and re.search(rf"\b{name}\b", said) and _UNKNOWN_FIELD.search(said):
            return name
    return None


def _most(said: str) -> int | None:
    """How many pictures would be taken, as a refusal says it."""
    found = _MOST.search(said)
    return int(found[1] or found[2]) if found else None


def chat_message(message: Message) -> dict[str, Any]:
    """A message in the protocol's form: plain text where there are no pictures, which every endpoint understands."""
    if not message.pictures:
        return {"role": message.role, "content": message.text}
    return {"role": message.role, "content": [_content(part) for part in message.parts]}


def _content(part: Part) -> dict[str, Any]:
    if isinstance(part, Picture):
        url = "data:image/jpeg;base64," + base64.b64encode(part.jpeg).decode("ascii")
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "text", "text": part}


def endpoint(base_url: str) -> httpx2.URL:
    """The address to send prompts to.

    Raises:
        UsageError: no http or https address.
    """
    hint = "write it like http://localhost:8000/v1"
    try:
        url = httpx2.URL(base_url.strip())
    except (httpx2.InvalidURL, TypeError, ValueError):
        # The parser's own words may hold the password.
        raise UsageError(f"invalid address: --base-url {_without_password(base_url)}", hint) from None
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError(f"invalid address: --base-url {_without_password(base_url)} is not http or https", hint)
    path = url.path.rstrip("/").removesuffix("/chat/completions")
    return url.copy_with(path=f"{path}/chat/completions")


def _without_password(base_url: str) -> str:
    """An address for messages: what stands before the last @ may be a password, what follows a ? a key."""
    scheme, mark, rest = base_url.partition("://")
    shown = f"{scheme}{mark}{rest.rpartition('@')[2]}" if mark else base_url.rpartition("@")[2]
    return repr(shown.partition("?")[0])


def sends_openly(base_url: str, key: str) -> bool:
    """Whether a key, or the password of an address, goes over a network as plain text.

    Raises:
        UsageError: no http or https address.
    """
    url = endpoint(base_url)
    return url.scheme == "http" and bool(key or url.password) and not _is_here(url.host)


def _is_here(host: str) -> bool:
    """Whether the name of a host means this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _answer(reply: Reply) -> str:
    try:
        return answer_of(object_of(reply))
    except (ValueError, RecursionError) as error:
        raise _Passing("the endpoint's answer is no JSON") from error


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
