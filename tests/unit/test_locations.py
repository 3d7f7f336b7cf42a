"""Videos in buckets and on web servers: listed, indexed, read by ranges, gone, away. The servers are real."""

from __future__ import annotations

import datetime
import errno
import http.server
import json
import os
import re
import shlex
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clamr_cli import locations
from clamr_cli.cli import main
from clamr_cli.errors import MediaError, UsageError
from clamr_cli.events import Offline, Removed, Skipped
from clamr_cli.files import readable_now
from clamr_cli.index.run import IndexOptions, index
from clamr_cli.media import files
from clamr_cli.media.clips import copy_clip
from clamr_cli.media.files import content_hash
from clamr_cli.media.frames import frames_at
from clamr_cli.media.probe import probe
from clamr_cli.media.walk import discover
from clamr_cli.store import Store
from clamr_cli.types import Span
from tests.s3 import BUCKET, forget_servers, s3_server, use_profile
from tests.unit.index.test_run import Inline
from tests.unit.media.clips import Clip
from tests.unit.store.samples import all_rows

pytestmark = pytest.mark.slow

OPTIONS = {"qmin": "2", "qmax": "2"}
SECRET = "not-to-be-printed"


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    with s3_server() as address:
        import boto3

        yield boto3.client("s3", endpoint_url=address, region_name="us-east-1")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    forget_servers()


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Bytes that were read from servers, by address."""
    counts: dict[str, int] = {}
    read = locations.read_range

    def counted(entry: locations.RemoteEntry, start: int, end: int) -> bytes:
        counts[entry.path] = counts.get(entry.path, 0) + end - start
        return read(entry, start, end)

    monkeypatch.setattr(locations, "read_range", counted)
    return counts


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of many bytes and few frames, each of which is a keyframe."""
    draw = np.random.default_rng(0)
    clip = Clip(lambda _: draw.integers(0, 255, (180, 320, 3), np.uint8), 7.5, 20, "mjpeg", options=OPTIONS)
    return Path(clip.write(tmp_path_factory.mktemp("noise") / "noise.mov"))


def folder_of_two(folder: Path) -> Path:
    (folder / "trips").mkdir(parents=True)
    Clip(seconds=1.0).write(folder / "trips/lake ä#1.mp4")
    Clip(seconds=1.2, fps=20).write(folder / "plain.mp4")
    (folder / "trips/lake ä#1.en.srt").write_text("1\n00:00:00,000 --> 00:00:00,900\nA boat on the water.\n")
    (folder / "plain.nfo").write_text("<movie><title>The plain</title><plot>Cows.</plot></movie>")
    (folder / "notes.txt").write_text("no video")
    return folder


def upload(bucket: Any, folder: Path, prefix: str) -> str:
    for path in folder.rglob("*"):
        if path.is_file():
            bucket.upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(folder).as_posix()}")
    return f"s3://{BUCKET}/{prefix}"


def run(store: Store, target: str, cache: Path) -> list[Any]:
    options = IndexOptions(cache, encoder="hashed", speech=False, text=False)
    return list(index(store, [target], options, Inline()))


def test_an_index_of_a_bucket_is_that_of_the_same_folder_and_the_next_run_reads_nothing(bucket, tmp_path, received):
    folder = folder_of_two(tmp_path / "videos")
    target = upload(bucket, folder, "same")
    near, far = (Store.open(tmp_path / name, create=True) for name in ("near", "far"))
    assert run(near, str(folder), tmp_path / "cache")[-1].indexed == 2
    assert not received
    assert run(far, target, tmp_path / "cache")[-1].indexed == 2
    ours, theirs = all_rows(near), all_rows(far)
    for table in ("moments", "videos", "vectors"):
        names = [name for name in ours if name.startswith(table)]
        assert names
        assert all(ours[name] == theirs[name] for name in names)
    assert "A boat on the water." in str(theirs)
    assert "Cows." in str(theirs)
    sizes = {f"{target}/{name}": (folder / name).stat().st_size for name in ("trips/lake ä#1.mp4", "plain.mp4")}
    assert {path: received[path] for path in sizes} == sizes  # each once
    assert [path.name for path in (tmp_path / "cache/spool").iterdir()] == []
    received.clear()
    forget_servers()
    finished = run(far, target, tmp_path / "cache")[-1]
    assert (finished.indexed, finished.unchanged) == (0, 2)
    assert not received
    # A library that was moved to a bucket is known there.
    events = run(near, target, tmp_path / "cache")
    assert events[-1].indexed == 2
    assert all(event.stages == ("decode", "speech", "ocr", "encode") for event in events if hasattr(event, "stages"))
    assert len(near.catalog()) == 2


def test_changes_in_a_bucket_are_those_of_a_folder_and_an_unreachable_one_forgets_nothing(
    bucket, tmp_path, received, monkeypatch
):
    folder = folder_of_two(tmp_path / "videos")
    for number in range(3):
        Clip(seconds=0.4, fps=10 + number).write(folder / f"{number}.mp4")
    target = upload(bucket, folder, "change")
    store = Store.open(tmp_path / "index", create=True)
    assert run(store, target, tmp_path / "cache")[-1].indexed == 5
    # A sidecar that comes, and an object that goes.
    bucket.put_object(Bucket=BUCKET, Key="change/0.description", Body=b"Zebras in the evening.")
    bucket.delete_object(Bucket=BUCKET, Key="change/plain.mp4")
    forget_servers()
    received.clear()
    events = run(store, target, tmp_path / "cache")
    assert (events[-1].indexed, events[-1].removed) == (1, 1)
    assert [event.path for event in events if isinstance(event, Removed)] == [f"{target}/plain.mp4"]
    assert "Zebras in the evening." in str(all_rows(store))
    # The network goes.
    forget_servers()
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        events = run(store, target, tmp_path / "cache")
    (skipped,) = (event for event in events if isinstance(event, Skipped))
    assert skipped.path == target
    assert "127.0.0.1:9 cannot be reached" in skipped.reason
    assert "4 indexed videos stay in the index" in skipped.reason
    assert len(store.catalog()) == 4
    # So does all that is in the folder: its disk may be away, as far as anybody can tell.
    for key in ("0.mp4", "1.mp4", "2.mp4"):
        bucket.delete_object(Bucket=BUCKET, Key=f"change/{key}")
    forget_servers()
    events = run(store, target, tmp_path / "cache")
    assert [event.files for event in events if isinstance(event, Offline)] == [3]
    assert len(store.catalog()) == 4
    there = readable_now(store.files())
    assert {path for path in there if path.endswith(".mp4")} == {f"{target}/trips/lake ä#1.mp4"}


def test_frames_and_clips_of_an_object_are_read_by_ranges(bucket, noise, tmp_path, received):
    bucket.upload_file(str(noise), BUCKET, "noise.mov")
    path, size = f"s3://{BUCKET}/noise.mov", noise.stat().st_size
    assert size > 5_000_000
    info = probe(path)
    assert info == probe(str(noise))
    assert received[path] < 1.5 * size  # it looks at the stamps of hundreds of frames
    forget_servers()
    received.clear()
    taken = [image.tobytes() for _, image in frames_at(path, info, [1.0, 6.0], max_side=64)]
    assert taken == [image.tobytes() for _, image in frames_at(str(noise), info, [1.0, 6.0], max_side=64)]
    assert received[path] < 0.4 * size
    forget_servers()
    received.clear()
    copy_clip(path, info, tmp_path / "far.mov", Span(0.8, 1.1))
    copy_clip(str(noise), info, tmp_path / "near.mov", Span(0.8, 1.1))
    assert (tmp_path / "far.mov").read_bytes() == (tmp_path / "near.mov").read_bytes()
    assert received[path] < 0.8 * size  # it looks ahead for late packets


def test_the_identity_of_a_large_object_is_that_of_the_file(bucket, noise, monkeypatch):
    bucket.upload_file(str(noise), BUCKET, "large.mov")
    whole = content_hash(str(noise))
    monkeypatch.setattr(files, "WHOLE_UP_TO", 2**20)
    monkeypatch.setattr(files, "BLOCK", 2**15)
    assert content_hash(f"s3://{BUCKET}/large.mov") == content_hash(str(noise)) != whole


def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed_with_its_successor(bucket, noise):
    bucket.upload_file(str(noise), BUCKET, "replaced.mov")
    with locations.open_binary(f"s3://{BUCKET}/replaced.mov") as file:
        file.read(10)
        bucket.put_object(Bucket=BUCKET, Key="replaced.mov", Body=b"x" * noise.stat().st_size)
        file.seek(4_000_000)
        with pytest.raises(OSError, match="was changed while it was read"):
            file.read(10)


def test_a_name_that_cannot_be_used_costs_its_folder_only(bucket, tmp_path):
    for key in ("odd/good/a.mp4", "odd/bad//b.mp4", "odd/hidden/.c.mp4", "odd/empty/", "odd/[x].mp4"):
        bucket.put_object(Bucket=BUCKET, Key=key, Body=b"\0\0\0\x18ftypmp42")
    found = {item.path: getattr(item, "reason", "") for item in discover([f"s3://{BUCKET}/odd"])}
    start = f"s3://{BUCKET}/odd/"
    assert found.keys() == {start + "good/a.mp4", start + "bad", start + "[x].mp4"}
    assert "cannot be read" in found[start + "bad"]


@pytest.mark.parametrize(
    ("target", "environment", "words"),
    [
        ("s3://no-such-bucket/x", {}, "there is no bucket s3://no-such-bucket"),
        (f"s3://{BUCKET}/nothing/here", {}, "there is no object or folder 's3://videos/nothing/here'"),
        (f"s3://{BUCKET}/x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "127.0.0.1:9 cannot be reached"),
        ("https://me:secret@example.org/a.mp4", {}, "example.org/a.mp4 has a user name, a password or a query"),
        ("https://example.org/a.mp4?sig=secret", {}, "example.org/a.mp4 has a user name, a password or a query"),
    ],
)
def test_a_target_that_cannot_be_used_is_refused_in_a_line_without_secrets(
    bucket, monkeypatch, target, environment, words
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as refused:
        list(discover([target]))
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_refusal_is_told_without_what_the_server_says(bucket, monkeypatch):
    with web_server(lambda *args: Refusing(*args)) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(UsageError) as refused:
            list(discover([f"s3://{BUCKET}/x"]))
    assert str(refused.value) == "s3://videos gives no access: check the credentials and their rights"


def test_a_video_that_the_network_lost_is_tried_again_by_the_next_run(bucket, tmp_path, monkeypatch):
    Clip(seconds=0.4).write(tmp_path / "lost.mp4")
    bucket.upload_file(str(tmp_path / "lost.mp4"), BUCKET, "lost/lost.mp4")
    store, target = Store.open(tmp_path / "index", create=True), f"s3://{BUCKET}/lost"

    def lose(*_: Any) -> bytes:
        raise locations.RemoteError(errno.ETIMEDOUT, "the server cannot be reached")

    with monkeypatch.context() as patch:
        patch.setattr(locations, "read_range", lose)
        assert run(store, target, tmp_path / "cache")[-1].failed == 1
    assert run(store, target, tmp_path / "cache")[-1].indexed == 1
    assert not list((tmp_path / "cache/spool").glob("*" + locations.FETCHED))


def test_a_server_plays_an_object_by_ranges_and_a_player_gets_a_signed_address(
    bucket, tmp_path, monkeypatch, capfdbinary, received
):
    pytest.importorskip("fastapi", reason="the [serve] extra is not installed")
    from tests.unit.serve.test_playback import VIDEO, Shelf, served

    clip = Path(Clip(seconds=1.0).write(tmp_path / "played.mp4"))
    bucket.upload_file(str(clip), BUCKET, "played.mp4")
    path, content = f"s3://{BUCKET}/played.mp4", clip.read_bytes()
    monkeypatch.setattr(Shelf, "path", lambda *_: path)
    with served(clip, tmp_path) as client:
        part = client.get(f"/media/{VIDEO}/file", headers={"Range": "bytes=100-299"})
        assert (part.status_code, part.content) == (206, content[100:300])
        assert part.headers["content-range"] == f"bytes 100-299/{len(content)}"
        assert received[path] == 200
        assert client.get(f"/media/{VIDEO}/file", headers={"Range": "bytes=-50"}).content == content[-50:]
        assert client.get(f"/media/{VIDEO}/file").content == content
        assert client.get(f"/media/{VIDEO}/file", headers={"Range": f"bytes={len(content)}-"}).status_code == 416
        assert client.get(f"/media/{VIDEO}/remux/0.m4s").status_code == 200
    assert main(["open", f"{path}@0:00.5", "--player", "mpv", "--print"]) == 0
    words = shlex.split(capfdbinary.readouterr().out.decode())
    assert words[1:3] == ["--start=0.5", "--"]
    with urllib.request.urlopen(words[3]) as answer:
        assert answer.read() == content
    assert SECRET not in words[3]


def test_without_the_extra_the_message_names_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "obstore.store", None)
    with pytest.raises(UsageError, match=r"optional package.*\[remote\]"):
        list(discover(["s3://videos/x"]))


@pytest.fixture
def profile(monkeypatch, tmp_path, bucket) -> Path:
    """A folder in which this process looks for the configuration of AWS; the environment names a profile of it only."""
    use_profile(monkeypatch, tmp_path)
    return tmp_path


def test_the_keys_of_a_profile_are_used_where_the_environment_has_none(profile):
    (profile / "credentials").write_text("[archive]\naws_access_key_id = tests\naws_secret_access_key = abc\n")
    (profile / "config").write_text("[profile archive]\nregion = eu-central-1\n")
    address = locations.address_for_player(f"s3://{BUCKET}/x.mp4")
    assert re.search(r"X-Amz-Credential=tests%2F\d+%2Feu-central-1", address)


def test_a_program_that_a_profile_names_gives_the_keys_and_the_server_is_that_of_the_profile(profile, monkeypatch):
    program = profile / "keys.py"
    keys = {"Version": 1, "AccessKeyId": "made", "SecretAccessKey": "up", "Expiration": "2999-01-01T00:00:00Z"}
    program.write_text(f"print({json.dumps(json.dumps(keys))})")
    (profile / "config").write_text(
        f"[profile archive]\nregion = us-east-1\nendpoint_url = {os.environ['AWS_ENDPOINT_URL']}\n"
        f"credential_process = {sys.executable} {program}\n"
    )
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert "Credential=made%2F" in locations.address_for_player(f"s3://{BUCKET}/x.mp4")
    with pytest.raises(UsageError, match="there is no object or folder"):  # the server of the tests was asked
        list(discover([f"s3://{BUCKET}/nothing/here"]))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("", "the AWS configuration has no profile 'archive'"),
        ("[profile archive]\nregion = us-east-1\n", f"there are no credentials for s3://{BUCKET}"),
        (
            """[profile archive]
            sso_session = firm
            sso_account_id = 1
            sso_role_name = r
            [sso-session firm]
            sso_region = us-east-1
            sso_start_url = https://example.org""".replace("            ", ""),
            "the sign-in of the AWS profile 'archive' has run out: run: aws sso login --profile archive",
        ),
        (
            f"[profile archive]\ncredential_process = {sys.executable} -c raise(SystemExit(1))\n",
            "the AWS profile 'archive' gives no credentials (CredentialRetrievalError)",
        ),
    ],
)
def test_a_profile_without_keys_is_told_in_a_line(profile, config, words):
    (profile / "config").write_text(config)
    with pytest.raises(UsageError) as refused:
        list(discover([f"s3://{BUCKET}/x"]))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("scheme", "variables", "address"),
    [
        ("s3", {"AWS_REGION": "eu-west-1"}, "https://s3.eu-west-1.amazonaws.com/films/a%20b/c.mp4"),
        ("s3", {"AWS_ENDPOINT_URL": "http://minio:9000/"}, "http://minio:9000/films/a%20b/c.mp4"),
        ("gs", {}, "https://storage.googleapis.com/films/a%20b/c.mp4"),
        ("az", {"AZURE_STORAGE_ACCOUNT_NAME": "me"}, "https://me.blob.core.windows.net/films/a%20b/c.mp4"),
    ],
)
def test_a_player_gets_the_plain_address_of_a_public_file(monkeypatch, scheme, variables, address):
    for name in ("AWS_ENDPOINT_URL", "AZURE_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    provider = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}[scheme]
    for name, value in ({f"{provider}_SKIP_SIGNATURE": "true"} | variables).items():
        monkeypatch.setenv(name, value)
    assert locations.address_for_player(f"{scheme}://films/a b/c.mp4") == address


def test_a_tag_means_the_same_with_quotes_and_without():
    """Azure leaves them out where it lists, and gives them with a file."""
    meta = {"last_modified": datetime.datetime.now(datetime.UTC), "size": 3, "e_tag": "0x8D"}
    listed, asked = (locations._entry("az://films/a.mp4", meta | {"e_tag": tag}) for tag in ("0x8D", '"0x8D"'))
    assert listed.tag == asked.tag == '"0x8D"'
    assert listed.stat().st_mtime_ns == asked.stat().st_mtime_ns


@contextmanager
def web_server(handler: Any) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Refusing(http.server.BaseHTTPRequestHandler):
    """Refuses whatever it is asked for, and repeats it."""

    def do_GET(self) -> None:
        content = f"<Error><Code>AccessDenied</Code><Message>{self.headers}</Message></Error>".encode()
        self.send_response(403)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815 -- the name that the server looks for

    def log_message(self, *_: Any) -> None:
        pass


class Ranges(http.server.SimpleHTTPRequestHandler):
    """A web server that gives parts of files."""

    def do_GET(self) -> None:
        content = Path(self.translate_path(self.path)).read_bytes()
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        assert match
        start, end = int(match[1]), min(len(content), int(match[2]) + 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        self.wfile.write(content[start:end])

    def log_message(self, *_: Any) -> None:
        pass


def test_a_file_of_a_web_server_is_indexed(tmp_path):
    pytest.importorskip("obstore")
    (tmp_path / "web").mkdir()
    clip = Path(Clip(seconds=1.0).write(tmp_path / "web/a b.mp4"))
    with web_server(lambda *args: Ranges(*args, directory=str(tmp_path / "web"))) as address:
        target = f"{address}/a%20b.mp4"
        store = Store.open(tmp_path / "index", create=True)
        assert run(store, target, tmp_path / "cache")[-1].indexed == 1
        (file,) = store.files()
        assert (file.path, file.size) == (target, clip.stat().st_size)
        assert store.videos()[0].content_hash == content_hash(str(clip))
        assert probe(target).duration == probe(str(clip)).duration
        with pytest.raises(MediaError, match="the file is gone"):
            probe(target.replace("a%20b", "c"))
