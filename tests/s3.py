"""A real S3 server on this machine, for tests that skip where it is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clamr_cli import locations

BUCKET = "videos"


@contextmanager
def s3_server() -> Iterator[str]:
    """Start a server with an empty bucket, and have this process and its children use it; yields its address."""
    forget_servers()
    pytest.importorskip("obstore", reason="the extra 'cluster' is not installed")
    server_module = pytest.importorskip("moto.server", reason="moto is not installed")
    import boto3

    with pytest.MonkeyPatch.context() as patch:
        server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        values = {
            "ACCESS_KEY_ID": "tests", "SECRET_ACCESS_KEY": "not-to-be-printed", "REGION": "us-east-1",
            "ENDPOINT_URL": f"http://{host}:{port}",
        }  # fmt: skip
        for name, value in values.items():
            patch.setenv(f"AWS_{name}", value)
        boto3.client("s3", endpoint_url=values["ENDPOINT_URL"], region_name="us-east-1").create_bucket(Bucket=BUCKET)
        try:
            yield values["ENDPOINT_URL"]
        finally:
            server.stop()
            forget_servers()


def use_profile(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have the environment name a profile of AWS instead of keys; its files are ``config`` and ``credentials``."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        patch.delenv(name)
    patch.setenv("HOME", str(folder))
    patch.setenv("AWS_PROFILE", "archive")
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
    locations.forget_keys()


def forget_servers() -> None:
    """Forget what this process knows of servers: connections, listings, and that one was down."""
    locations.forget_keys()
    locations._listings.clear()
    locations._down.clear()
    locations._blocks.clear()
