"""A chat model behind a URL: any endpoint of the chat/completions protocol (OpenAI's, vLLM, llama.cpp, Ollama...).

Pictures go as base64 data URLs in ``image_url`` parts (https://platform.openai.com/docs/api-reference/chat).
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import itertools
import json
import random
import re
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import httpx2

from clamr_cli.errors import ModelError, UsageError, first_line
from clamr_cli.llm import AnswerError, ImagesRefused, ImagesTooLarge, Prompt, utf8

_TRANSIENT: Final = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
_LARGEST_REPLY: Final = 4 << 20
_LONGEST_WAIT: Final = 120.0
_DATA_URL: Final = "data:image/jpeg;base64,"
_OPTIONAL_FIELDS: Final = ("seed", "temperature", "max_tokens", "max_completion_tokens")

# The protocol has no codes for what is wrong with pictures; servers say it in words of their own.
_ABOUT_IMAGES: Final = re.compile(r"\b(image|vision|multi-?modal|modalit|picture|image_url)", re.IGNORECASE)
_TOO_LARGE: Final = re.compile(
    r"at most \d+ image|too many (?:images|tokens)|number of images|context (?:length|window|size)"
    r"|too (?:long|large|big|many)"
    r"|(?:image|picture|pixel|dimension|resolution).{0,60}(?:exceed|maximum|limited to|at most|less than|smaller than)"
    r"|(?:exceed|maximum).{0,60}(?:image|pixel)",
    re.IGNORECASE,
)
_MOST_IMAGES: Final = re.compile(r"at most (\d{1,4}) image|too many images\b.{0,40}?\b(?:is|of|>) (\d{1,4})", re.I)


class _Retry(Exception):
    """Trouble that may be over when the prompt is sent again."""

    def __init__(self, what: str, after: float = 0.0, *, factor: float = 1.0, silent: bool = False) -> None:
        super().__init__(what)
        self.what, self.after, self.factor, self.silent = what, after, factor, silent


class EndpointModel:
    """A :class:`~clamr_cli.llm.ChatModel` behind a URL.

    Args:
        base_url: what comes before ``/chat/completions``, e.g. ``http://localhost:8000/v1``.
        model: the endpoint's name for the model.
        key: sent as a bearer token; empty for none.
        timeout: seconds until a whole answer must be there.
        retries: how often a prompt is sent again after transient trouble; after a timeout, once.
        workers: prompts in flight at once.
        max_tokens: longest answer; ample for a query, with room for models that reason first.
        backoff: seconds before the first retry; each further one waits twice as long.
        image_hint: what the user can do where the pictures are too many or too large.

    Raises:
        UsageError: the address is not http or https.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        key: str = "",
        timeout: float = 60.0,
        retries: int = 4,
        workers: int = 4,
        max_tokens: int = 1024,
        backoff: float = 0.5,
        image_hint: str = "show fewer pictures",
    ) -> None:
        self.name, self.workers = model, workers
        self.supports_images: bool | None = None
        self.notes: list[str] = []
        self._timeout, self._retries, self._backoff = timeout, retries, backoff
        self._max_tokens, self._image_hint = max_tokens, image_hint
        self._url = endpoint_url(base_url)
        self._shown_url = str(self._url.copy_with(username=None, password=None, query=None))
        self._unsupported: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._reached = False
        self._closed = threading.Event()
        self._client = httpx2.Client(
            headers={"User-Agent": "clamr"} | ({"Authorization": f"Bearer {key}"} if key else {}),
            limits=httpx2.Limits(max_connections=workers + 1),
            timeout=timeout,
            # A proxy of the environment cannot reach a server on this machine.
            trust_env=not _is_loopback(self._url.host),
        )

    def answer(self, prompt: Prompt) -> str:
        """See :class:`~clamr_cli.llm.ChatModel`."""
        jitter = random.Random(prompt.seed)  # noqa: S311 -- not a secret
        for attempt in itertools.count(1):
            try:
                return self._request(prompt)
            except _Retry as trouble:
                wait = self._backoff * trouble.factor * 2 ** (attempt - 1) * jitter.uniform(0.75, 1.25)
                wait = max(wait, trouble.after)
                # A model that said nothing for the whole time probably works on an answer that takes longer.
                retries = min(self._retries, 1) if trouble.silent else self._retries
                if attempt > retries or wait > _LONGEST_WAIT:
                    tries = "one try" if attempt == 1 else f"{attempt} tries"
                    hint = "give it more with --timeout" if trouble.silent else ""
                    raise AnswerError(f"{trouble.what} (after {tries})", hint) from trouble
                if self._closed.wait(wait):
                    raise AnswerError("the run was stopped") from trouble
        raise AssertionError("unreachable")

    def close(self) -> None:
        """See :class:`~clamr_cli.llm.ChatModel`."""
        self._closed.set()
        self._client.close()

    def _request(self, prompt: Prompt) -> str:
        """One answer, without optional fields that the endpoint rejects."""
        while True:
            body = self._body(prompt)
            status, headers, content = self._post(body)
            if status == 200:
                if prompt.has_images:
                    self.supports_images = True
                return _answer_text(headers, content)
            complaint = _complaint(content)
            # Looked for in what was sent: another thread may have dropped the field meanwhile.
            rejected = (name for name in _OPTIONAL_FIELDS if name in body and re.search(rf"\b{name}\b", complaint))
            field = next(rejected, None) if status in (400, 422) else None
            if field is None:
                raise self._refusal(status, headers, complaint, has_images=prompt.has_images)
            with self._lock:
                if field not in self._unsupported and field in ("seed", "temperature"):
                    self.notes.append(f"the endpoint takes no {field}: another run may give other answers")
                self._unsupported |= {field}

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        content: object = prompt.text
        if prompt.has_images:
            content = [
                {"type": "text", "text": part}
                if isinstance(part, str)
                else {"type": "image_url", "image_url": {"url": _DATA_URL + base64.b64encode(part).decode("ascii")}}
                for part in prompt.user
            ]
        messages: list[dict[str, Any]] = [{"role": "system", "content": prompt.system}] if prompt.system else []
        messages.append({"role": "user", "content": content})
        length = "max_completion_tokens" if "max_tokens" in self._unsupported else "max_tokens"
        fields = {"seed": prompt.seed, "temperature": prompt.temperature, length: self._max_tokens}
        supported = {name: value for name, value in fields.items() if name not in self._unsupported}
        return {"model": utf8(self.name), "messages": messages, **supported}

    def _post(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        deadline = time.monotonic() + self._timeout
        content = bytearray()
        try:
            with self._client.stream("POST", self._url, json=body) as response:
                self._reached = True
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > _LARGEST_REPLY:
                        raise AnswerError(f"the answer is longer than {_LARGEST_REPLY >> 20} MiB")
                    # The client's own limit is for each read; one that sends a byte now and then would never end.
                    if time.monotonic() > deadline:
                        raise _Retry(f"no whole answer within {self._timeout:g} s", silent=True)
                return response.status_code, response.headers, bytes(content)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            if self._reached:
                raise _Retry(first_line(error)) from error
            hint = "start the server, or check --base-url"
            raise ModelError(f"nothing answers at {self._shown_url} ({first_line(error)})", hint) from error
        except httpx2.TimeoutException as error:
            raise _Retry(f"no answer within {self._timeout:g} s", silent=True) from error
        except httpx2.TransportError as error:
            raise _Retry(first_line(error)) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, RuntimeError) as error:
            # RuntimeError: the client was closed by an interruption.
            raise AnswerError(f"the request failed: {first_line(error)}") from error

    def _refusal(self, status: int, headers: Mapping[str, str], complaint: str, *, has_images: bool) -> Exception:
        """The error for a reply that is not an answer."""
        what = f"the endpoint answers {status}" + (f": {complaint}" if complaint else "")
        if has_images and (status == 413 or (status in (400, 422) and _TOO_LARGE.search(complaint))):
            too_large = ImagesTooLarge(what, self._image_hint)
            most = _MOST_IMAGES.search(complaint)
            too_large.most = int(most[1] or most[2]) if most else None
            return too_large
        # A model that does not exist may have "vision" in its name.
        about_images = _ABOUT_IMAGES.search(complaint) and (status != 404 or "support" in complaint)
        if has_images and status not in (401, 403, 429) and about_images:
            return ImagesRefused(what, "the model takes no pictures")
        if status in _TRANSIENT:
            after = headers.get("retry-after", "").strip()
            try:
                return _Retry(what, float(after))
            except ValueError:
                # 429 without Retry-After: back off longer.
                return _Retry(what, factor=10.0 if status == 429 else 1.0)
        if status in (401, 403):
            return ModelError(f"{self._shown_url} refuses the key ({what})", "give it with --api-key-env")
        if status == 404:
            return ModelError(f"{self._shown_url}: no such page or model ({what})", "check --base-url and --model")
        if 300 <= status < 400:
            return ModelError(f"{self._shown_url} redirects to {headers.get('location', '?')}", "use that --base-url")
        return AnswerError(what)


def _answer_text(headers: Mapping[str, str], content: bytes) -> str:
    """The text of a reply's first choice."""
    reply: Any = None
    try:
        streamed = headers.get("content-type", "").startswith("text/event-stream")
        reply = _joined_stream(content) if streamed else json.loads(content)
        choice = reply["choices"][0]
        text, refusal = (_content_text(choice["message"].get(name)) for name in ("content", "refusal"))
    except (ValueError, RecursionError) as error:
        raise _Retry("the endpoint's answer is not JSON") from error
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        said = _short(_message(reply)) if isinstance(reply, dict) and "error" in reply else ""
        raise AnswerError("the endpoint's answer has no message" + (f": {said}" if said else "")) from error
    if text.strip():
        return text
    if refusal.strip():
        raise AnswerError(f"the model refuses: {_short(refusal)}")
    cut_off = choice.get("finish_reason") == "length"
    raise AnswerError("the answer is empty" + (": the model was cut off while it was reasoning" if cut_off else ""))


def _joined_stream(content: bytes) -> dict[str, Any]:
    """The reply of an endpoint that streams though it was not asked to."""
    events = [line.removeprefix("data:").strip() for line in content.decode("utf-8").splitlines() if "data:" in line]
    chunks = [json.loads(event) for event in events if event and event != "[DONE]"]
    text, reason = "", None
    for chunk in chunks:
        if "error" in chunk:
            return dict(chunk)
        for choice in chunk.get("choices", [])[:1]:
            text += _content_text(choice.get("delta", {}).get("content"))
            reason = choice.get("finish_reason") or reason
    if not chunks:
        raise ValueError("empty stream")
    return {"choices": [{"message": {"content": text}, "finish_reason": reason}]}


def _content_text(content: object) -> str:
    """The text of a message: a string, or the text parts of a list."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _complaint(content: bytes) -> str:
    """The message of a failed reply in one line; empty for a web page."""
    text = content[:2000].decode("utf-8", "replace").strip()
    with contextlib.suppress(ValueError, RecursionError):
        text = _message(json.loads(content))
    return "" if text.startswith("<") else _short(text)


def _message(value: object) -> str:
    """The message in an error object, after the name of the field it is about."""
    if isinstance(value, list):
        return _message(value[0]) if value else ""
    if not isinstance(value, dict):
        return value if isinstance(value, str) else ""
    text = next((text for name in ("error", "message", "detail", "msg") if (text := _message(value.get(name)))), "")
    field = value.get("param") or ".".join(map(str, value.get("loc") or ()))
    return f"{field}: {text}" if field and text and str(field) not in text else text


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:199] + "…"


def endpoint_url(base_url: str) -> httpx2.URL:
    """The address to send prompts to.

    Raises:
        UsageError: it is not an http or https address.
    """
    # The last part before an @ may hold a password, what follows a ? a key: the parser's message would show them.
    shown = re.sub(r"^(\w+://)?.*@", r"\1", base_url.strip(), flags=re.DOTALL).partition("?")[0]
    invalid = UsageError(f"invalid address: --base-url {shown!r}", "write it like http://localhost:8000/v1")
    try:
        url = httpx2.URL(base_url.strip())
    except (httpx2.InvalidURL, TypeError, ValueError):
        raise invalid from None
    if url.scheme not in ("http", "https") or not url.host:
        raise invalid
    path = url.path.rstrip("/").removesuffix("/chat/completions")
    return url.copy_with(path=f"{path}/chat/completions")


def sends_key_unencrypted(base_url: str, key: str) -> bool:
    """Whether a key, or the password of an address, goes over a network as plain text.

    Raises:
        UsageError: it is not an http or https address.
    """
    url = endpoint_url(base_url)
    return url.scheme == "http" and bool(key or url.password) and not _is_loopback(url.host)


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified
