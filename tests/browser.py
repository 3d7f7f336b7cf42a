"""A headless Chromium and a running ``clamr serve``, for tests of the page, its picture and its bench."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")


@contextlib.contextmanager
def serving(environment: Mapping[str, str], *arguments: str) -> Iterator[str]:
    """A server on an index and a port of its own; gives the address that it prints, with its token.

    Raises:
        AssertionError: it ended without an address; the message is what it said.
    """
    command = [sys.executable, "-m", "clamr_cli", "serve", "--no-browser", "--port", str(free_port()), *arguments]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=said, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            if not address:
                said.seek(0)
                raise AssertionError(f"clamr serve ended with {server.wait()}: {said.read()}")
            yield address
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(60)
            server.kill()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def browsing(profile: Path) -> Iterator[Any]:
    """A browser that plays without being asked; its profile lies in a folder."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio",
        "--hide-scrollbars", "--autoplay-policy=no-user-gesture-required", f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        browser.set_script_timeout(120)
        browser.set_page_load_timeout(120)
        yield browser
    finally:
        browser.quit()


def resize(browser: Any, width: int, height: int, scale: float = 1) -> None:
    """Give the page a size in CSS pixels; narrow ones are phones."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
