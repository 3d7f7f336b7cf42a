"""A model behind a URL: its requests, and its handling of replies good and bad."""

import base64
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from clamr_cli.errors import ModelError, UsageError
from clamr_cli.llm import AnswerError, ImagesRefused, ImagesTooLarge, Prompt
from clamr_cli.llm.client import EndpointModel
from tests.unit.llm.endpoint import Sent, answer, endpoint, error, in_turn

PROMPT = Prompt("be brief", ("a text",), 42)
SEEING = Prompt("", ("look", b"\xff\xd8jpeg", "now"), 1)


def model(url: str, **options) -> EndpointModel:
    return EndpointModel(url, "m", **{"backoff": 0.01, "timeout": 60.0, **options})


def test_question_is_a_chat_with_seed_temperature_and_key():
    with endpoint(lambda _: answer("a query")) as there:
        assert model(there.url + "/", key="secret").answer(PROMPT) == "a query"
        (asked,) = there.asked
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.body["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "a text"}]
    assert (asked.body["model"], asked.body["seed"], asked.body["temperature"]) == ("m", 42, 0.0)


def test_invalid_characters_become_question_marks():
    """Arguments and file names may hold any bytes."""
    with endpoint(lambda _: answer("a query")) as there:
        odd = Prompt("caf\udce9", ("look", b"jpeg", "\ud83d"), 1)
        EndpointModel(there.url, "m\udcff").answer(odd)
        (asked,) = there.asked
    assert asked.body["model"] == "m?"
    assert asked.body["messages"][0]["content"] == "caf?"
    assert asked.body["messages"][1]["content"][2]["text"] == "?"


def test_frames_are_data_urls_between_the_texts():
    with endpoint(lambda _: answer("a query")) as there:
        seeing = model(there.url)
        seeing.answer(SEEING)
        (asked,) = there.asked
    assert [part["type"] for part in asked.body["messages"][0]["content"]] == ["text", "image_url", "text"]
    (url,) = asked.images
    assert base64.b64decode(url.removeprefix("data:image/jpeg;base64,")) == b"\xff\xd8jpeg"
    assert seeing.supports_images


@pytest.mark.parametrize(
    "trouble",
    [error(500, "boom"), error(503, "busy"), Sent(200, b"<html>"), Sent(429, b"slow down", {"Retry-After": "0"})],
)
def test_trouble_that_passes_is_waited_for(trouble):
    with endpoint(in_turn(trouble, trouble, answer("a query"))) as there:
        assert model(there.url).answer(PROMPT) == "a query"
        assert len(there.asked) == 3


@pytest.mark.slow
def test_retry_after_is_honoured():
    with endpoint(in_turn(error(429, "slow down", Retry_After="1"), answer("a query"))) as there:
        started = time.monotonic()
        model(there.url).answer(PROMPT)
        assert time.monotonic() - started >= 1


def test_a_wait_of_hours_is_a_failure_at_once():
    with endpoint(lambda _: error(429, "quota", Retry_After="7200")) as there:
        with pytest.raises(AnswerError, match="429: quota"):
            model(there.url).answer(PROMPT)
        assert len(there.asked) == 1


def test_trouble_that_stays_is_told_with_its_reason():
    with endpoint(lambda _: error(500, "out of\nmemory")) as there:
        with pytest.raises(AnswerError, match=r"500: out of memory \(after 3 tries\)$"):
            model(there.url, retries=2).answer(PROMPT)
        assert len(there.asked) == 3


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (answer(None), "the answer is empty"),
        (answer("  "), "the answer is empty"),
        (answer(None, refusal="I will not"), "the model refuses: I will not"),
        (Sent(200, b"{}"), "no message"),
        (Sent(200, b"[1]"), "no message"),
        (Sent(200, b'{"error": {"message": "no such model"}}'), "no such model"),
        (Sent(200, b'{"choices": []}'), "no message"),
        (error(400, "context too long"), "400: context too long"),
        (Sent(400, b"<html><body>nginx"), "answers 400$"),
        (Sent(400, b"\xff\xfe"), "answers 400"),
        (Sent(418, json.dumps({"detail": [{"loc": ["body", "x"], "msg": "bad"}]}).encode()), "418: body.x: bad"),
    ],
)
def test_replies_without_an_answer_are_one_clear_line(reply, said):
    with endpoint(lambda _: reply) as there, pytest.raises(AnswerError, match=said) as caught:
        model(there.url, retries=0).answer(PROMPT)
    assert "\n" not in str(caught.value)


def streamed(*pieces: object) -> Sent:
    body = "".join(f"data: {piece if isinstance(piece, str) else json.dumps(piece)}\n\n" for piece in pieces)
    return Sent(200, f": a comment\n\n{body}".encode(), {"Content-Type": "text/event-stream; charset=utf-8"})


def piece(text: str | None, **more: object) -> dict[str, object]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}, **more}]}


def test_an_answer_that_is_streamed_unasked_is_put_together():
    ended = {"choices": [], "usage": {"total_tokens": 3}}
    pieces = (piece(None), piece("a "), piece("qu\u00e9ry"), piece("", finish_reason="stop"), ended, "[DONE]")
    with endpoint(lambda _: streamed(*pieces)) as there:
        assert model(there.url).answer(PROMPT) == "a qu\u00e9ry"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (streamed(piece("a"), {"error": {"message": "out of memory"}}), "no message: out of memory"),
        (streamed(piece(None), "[DONE]"), "the answer is empty"),
        (streamed("[DONE]"), "is not JSON"),
        (streamed(piece("a"), '{"choices": [{"del'), "is not JSON"),
        (streamed("[1]", {"choices": [1]}), "no message"),
    ],
)
def test_a_stream_without_an_answer_is_one_clear_line(reply, said):
    with endpoint(lambda _: reply) as there, pytest.raises(AnswerError, match=said):
        model(there.url, retries=0).answer(PROMPT)


@pytest.mark.slow
def test_no_answer_within_the_time_limit_is_an_error():
    with endpoint(lambda _: Sent(hang=True)) as there, pytest.raises(AnswerError, match=r"no answer within 0.2 s"):
        model(there.url, timeout=0.2, retries=0).answer(PROMPT)


@pytest.mark.slow
def test_a_timeout_is_retried_once():
    with endpoint(lambda _: Sent(hang=True)) as there:
        with pytest.raises(AnswerError, match=r"\(after 2 tries\): give it more with --timeout"):
            model(there.url, timeout=1.0, retries=9).answer(PROMPT)
        assert len(there.asked) == 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_ends_everything(status):
    with endpoint(lambda _: error(status, "bad key")) as there, pytest.raises(ModelError, match="refuses the key"):
        model(there.url).answer(PROMPT)


@pytest.mark.slow
def test_wrong_addresses_are_named():
    with endpoint() as there:
        with pytest.raises(ModelError, match="no such page or model"):
            model(there.url + "/wrong").answer(PROMPT)
        url = there.url
    with pytest.raises(ModelError, match="nothing answers at"):
        model(url).answer(PROMPT)
    gone = error(404, 'model "llama3.2-vision" not found, try pulling it first')
    with endpoint(lambda _: gone) as there, pytest.raises(ModelError, match="check --base-url and --model"):
        model(there.url).answer(SEEING)
    with (
        pytest.raises(ModelError, match="redirects to http://elsewhere"),
        endpoint(lambda _: Sent(302, b"", {"Location": "http://elsewhere"})) as there,
    ):
        model(there.url).answer(PROMPT)


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://x/v1", "http://", "http://x:port/v1"])
def test_an_invalid_address_is_refused_at_once(url):
    with pytest.raises(UsageError, match="--base-url"):
        model(url)


def test_an_endpoint_that_goes_away_later_is_a_failure_of_the_query():
    with endpoint(lambda _: answer("a query")) as there:
        lasting = model(there.url, retries=1)
        lasting.answer(PROMPT)
    with pytest.raises(AnswerError, match="after 2 tries"):
        lasting.answer(PROMPT)


@pytest.mark.parametrize(
    "reply",
    [
        error(400, "This model does not support image input"),
        error(404, "No endpoints found that support image input"),
        error(500, "image input is not supported - hint: provide the mmproj"),
        error(422, "image_url is not a permitted content type"),
    ],
)
def test_a_model_that_takes_no_pictures_says_so(reply):
    with endpoint(lambda _: reply) as there, pytest.raises(ImagesRefused):
        model(there.url, retries=0).answer(SEEING)


@pytest.mark.parametrize(
    ("said", "most"),
    [
        ("At most 1 image(s) may be provided in one request.", 1),
        ("Too many images in request. Max is 500.", 500),
        ("image tokens: prompt too long", None),
        ("messages.0: image dimensions exceed the allowed size of 2000 pixels", None),
        ("image exceeds 5 MB maximum", None),
        ("the image must be at most 1024 pixels wide", None),
        ("Image dimensions must be less than 2000x2000", None),
        ("maximum image size is 1024", None),
        ("image width and height are limited to 768", None),
    ],
)
def test_too_many_or_too_large_pictures_are_not_a_refusal(said, most):
    with endpoint(lambda _: error(400, said)) as there, pytest.raises(AnswerError, match="--max-frames") as caught:
        model(there.url, image_hint="show fewer --max-frames").answer(SEEING)
    assert isinstance(caught.value, ImagesTooLarge)
    assert caught.value.most == most


def test_a_request_that_is_too_large_is_too_many_pictures_only_where_there_are_some():
    with endpoint(lambda _: Sent(413, b"<html>Request Entity Too Large")) as there:
        with pytest.raises(ImagesTooLarge, match="give a smaller -k"):
            model(there.url, image_hint="give a smaller -k").answer(SEEING)
        with pytest.raises(AnswerError, match="answers 413") as caught:
            model(there.url).answer(PROMPT)
    assert not isinstance(caught.value, ImagesTooLarge)


def test_a_server_on_this_machine_is_asked_without_the_proxy(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with endpoint(lambda _: answer("a query")) as there:
        assert model(there.url).answer(PROMPT) == "a query"


def test_fields_that_the_endpoint_does_not_know_are_left_out_from_then_on():
    def picky(asked):
        if "seed" in asked.body:
            return error(400, "Unsupported parameter: seed")
        if "max_tokens" in asked.body:
            return error(400, "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.")
        return answer("a query")

    with endpoint(picky) as there:
        adapting = model(there.url)
        assert adapting.answer(PROMPT) == adapting.answer(PROMPT) == "a query"
        assert len(there.asked) == 4
        assert there.asked[-1].body["max_completion_tokens"] > 0
    assert adapting.notes == ["the endpoint takes no seed: another run may give other answers"]


def test_questions_asked_at_once_all_learn_what_the_endpoint_does_not_know():
    together = threading.Barrier(4)

    def picky(asked):
        if "seed" not in asked.body:
            return answer("a query")
        together.wait(10)
        return error(400, "Unsupported parameter: seed")

    with endpoint(picky) as there:
        adapting = model(there.url, workers=4, retries=0)
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(adapting.answer, [PROMPT] * 4)) == ["a query"] * 4
    assert adapting.notes == ["the endpoint takes no seed: another run may give other answers"]


def test_closing_ends_the_wait_for_a_retry():
    with endpoint(lambda _: error(503, "busy", Retry_After="60")) as there:
        waiting = model(there.url)
        ended: list[str] = []

        def ask():
            try:
                waiting.answer(PROMPT)
            except AnswerError as problem:
                ended.append(problem.what)

        thread = threading.Thread(target=ask)
        thread.start()
        while not there.asked:
            time.sleep(0.01)
        waiting.close()
        thread.join(20)
    assert len(ended) == 1
