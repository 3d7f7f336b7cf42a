"""A headless Chromium and a running ``clamr serve``, for tests of the page, its picture and its bench."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")


@contextlib.contextmanager
def serving(environment: Mapping[str, str], *arguments: str) -> Iterator[str]:
    """A server on an index; gives the address that it prints, with its token."""
    command = [sys.executable, "-m", "clamr_cli", "serve", "--no-browser", *arguments]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(10)
            server.kill()


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
        browser.set_script_timeout(60)
        yield browser
    finally:
        browser.quit()


def resize(browser: Any, width: int, height: int, scale: float = 1) -> None:
    """Give the page a size in CSS pixels; narrow ones are phones."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
