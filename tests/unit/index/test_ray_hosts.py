"""A Ray cluster of two hosts in network namespaces, with shared videos and a token, but no shared cache or memory."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clamr_cli.store import Store
from tests.clips import Clip
from tests.unit.store.samples import all_rows

pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
pytestmark = pytest.mark.slow

HEAD, OTHER, PORT = "10.97.0.1", "10.97.0.2", 6379
UNABLE = 77
"""Exit code of the hosts where this system gives a process no network of its own."""

HOSTS = """
    mount -t tmpfs tmpfs {ray} && ip link set lo up || exit {unable}
    unshare --net --mount --uts sh -c {other} >{ray}.log 2>&1 &
    for second in $(seq 30); do
        test "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/self/ns/net)" && break
        sleep 0.1
    done
    ip link add wire type veth peer name wire netns $! || exit {unable}
    ip addr add {head}/24 dev wire && ip link set wire up || exit {unable}
    {start} --head --node-ip-address={head} --port={port} --include-dashboard=false --temp-dir={ray} >&2 || exit 1
    {{ until grep -qs '"event": "{cut}"' {events} && test -s {seen}; do sleep 0.1; done; ip link set wire down; }} &
    {command} >{events}
"""
OTHER_HOST = """
    mount -t tmpfs tmpfs {ray} && mount -t tmpfs tmpfs {cache} && mount -t tmpfs tmpfs /dev/shm || exit 1
    hostname other
    until ip addr add {address}/24 dev wire; do sleep 0.1; done
    ip link set lo up && ip link set wire up || exit 1
    until {start} --address={head}:{port} --node-ip-address={address}; do sleep 1; done
    until test -s {cache}/cluster/workers.log -o -n "$(ls {cache}/cluster/*/ 2>/dev/null)"; do sleep 0.1; done
    ls -R {cache}/cluster >{seen}
    sleep 600
"""


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name: those of sockets are limited."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("cut", ["never", "indexed"])
def test_the_index_of_two_hosts_is_that_of_one_machine(tmp_path: Path, short: Path, cut: str):
    """Also where one is cut off that works, after an event, here the first video."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("this system cannot give a process a network of its own")
    videos, cache, events = tmp_path / "videos", tmp_path / "cache", tmp_path / "events"
    videos.mkdir()
    cache.mkdir()
    for number in range(12):
        Clip().colour("navy", 1 + number).text(("card", str(number)), 2).write(videos / f"{number}.mp4")

    def command(db: str, *options: str) -> list[str]:
        plain = ["--json", "--encoder", "hashed", "--no-speech", "--no-ocr"]
        return [sys.executable, "-m", "clamr_cli", "--db", str(tmp_path / db), "index", str(videos), *plain, *options]

    environment = {**os.environ, "CLAMR_CACHE": str(cache), "RAY_USAGE_STATS_ENABLED": "0"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    subprocess.run(command("local"), env=environment, capture_output=True, check=True, timeout=200)
    start = f"{sys.executable} -m ray.scripts.scripts start --num-cpus=1 --object-store-memory=80000000"
    names = {"ray": short, "cache": cache, "start": start, "port": PORT, "head": HEAD, "seen": tmp_path / "seen"}
    names |= {"cut": cut, "events": events}
    cluster = command("index", "--executor", "ray", "--address", f"{HEAD}:{PORT}", "--workers", "2")
    other = OTHER_HOST.format(address=OTHER, **names)
    hosts = HOSTS.format(other=shlex.quote(other), unable=UNABLE, command=shlex.join(cluster), **names)
    boxed = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child"]
    boxed += ["--mount-proc", "sh", "-c", hosts]
    done = subprocess.run(boxed, env=environment, capture_output=True, text=True, check=False, timeout=500)
    if done.returncode == UNABLE or "unshare: " in done.stderr:
        pytest.skip("this machine lets no process have a network of its own")
    assert done.returncode == 0, done.stderr
    said = [event.get("text", "") for event in map(json.loads, events.read_text().splitlines())]
    assert "2 of 2 workers on 2 nodes" in said
    assert (tmp_path / "seen").read_text()
    assert any("on node other was lost" in text for text in said) == (cut == "indexed")
    assert all_rows(Store.open(tmp_path / "index")) == all_rows(Store.open(tmp_path / "local"))
