"""The page of ``clamr serve`` in a real browser: what people see, hear and press."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from tests.browser import CHROMIUM, DRIVER, browsing, resize, serving
from tests.clips import Clip

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
pytest.importorskip("fastapi", reason="the [serve] extra is not installed")

from axe_core_python.selenium import Axe  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium and its driver are not installed"),
]
HOSTILE = "<img src=x onerror=alert(1)><b>Garden</b>"
COLOURS = ("#a01010", "#10a010", "#1010a0", "#a0a010")
"""Of four seconds each; what is on screen tells the time."""
CAPTIONS = """1
00:00:01,000 --> 00:00:05,000
Welcome to the walled garden

2
00:00:09,000 --> 00:00:12,000
The lighthouse keeper waters his tomatoes

3
00:00:13,000 --> 00:00:15,500
Then the ferry leaves the harbour
"""


def coloured() -> Clip:
    clip = Clip(size=(160, 90), tags={"title": HOSTILE})
    for colour in COLOURS:
        clip.colour(colour, 4)
    return clip.narration("bees", at=1)


def as_avi(source: Path, target: Path) -> None:
    """The pictures of a clip as MPEG-4 part 2 in AVI, which no browser plays."""
    with av.open(str(source)) as given, av.open(str(target), "w", format="avi") as written:
        film: Any = written.add_stream("mpeg4", rate=8)
        film.width, film.height, film.pix_fmt = 160, 90, "yuv420p"
        for number, frame in enumerate(given.decode(video=0)):
            frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, 8), av.video.frame.PictureType.NONE
            written.mux(film.encode(frame))
        written.mux(film.encode(None))


@dataclass
class Page:
    """A browser on the page."""

    driver: Any
    url: str
    folder: Path

    def open(self, address: str = "") -> None:
        self.driver.get(self.url + address)

    def one(self, selector: str) -> Any:
        return self.wait(lambda: next(iter(self.all(selector)), None))

    def all(self, selector: str) -> list[Any]:
        return [found for found in self.driver.find_elements(By.CSS_SELECTOR, selector) if found.is_displayed()]

    def wait(self, condition: Callable[[], Any]) -> Any:
        from selenium.common.exceptions import StaleElementReferenceException

        wait = WebDriverWait(self.driver, 90, 0.05, ignored_exceptions=(StaleElementReferenceException,))
        return wait.until(lambda _: condition())

    def script(self, text: str, *args: object) -> Any:
        return self.driver.execute_script(text, *args)

    def press(self, *keys: str) -> None:
        for key in keys:
            webdriver.ActionChains(self.driver).send_keys(key).perform()

    def search(self, query: str) -> list[Any]:
        box = self.one("#q")
        box.clear()
        box.send_keys(query, Keys.ENTER)
        self.wait(lambda: not self.script("return document.querySelector('#results').ariaBusy"))
        return self.wait(lambda: self.all("#hits a.card, #hits .empty"))

    @property
    def time(self) -> float:
        return float(self.script("return document.querySelector('video').currentTime"))

    @property
    def paused(self) -> bool:
        return bool(self.script("return document.querySelector('video').paused"))

    def colour(self) -> int:
        """Which of the colours the player shows."""
        red, green, blue = self.script(
            """const video = document.querySelector("video"), canvas = document.createElement("canvas");
            canvas.width = canvas.height = 8;
            const pen = canvas.getContext("2d");
            pen.drawImage(video, 0, 0, 8, 8);
            return [...pen.getImageData(4, 4, 1, 1).data.slice(0, 3)];"""
        )
        return [(True, False, False), (False, True, False), (False, False, True), (True, True, False)].index(
            (red > 80, green > 80, blue > 80)
        )

    def ready(self, second: float) -> None:
        """Wait until the player shows what is at a second or, where it plays, after it."""
        state = "const v = document.querySelector('video'); return v.readyState >= 2 && !v.seeking"
        self.wait(lambda: self.script(state) and self.time >= second - 0.2)

    def listen(self, event: str) -> None:
        """Note the second at which the player next begins to play or to seek (``playing``, ``seeking``)."""
        self.script(
            "window.noted = null; document.querySelector('video').addEventListener(arguments[0], "
            "(event) => { window.noted = event.target.currentTime; }, { once: true })",
            event,
        )

    def noted(self) -> float:
        """The second that was noted."""
        return float(self.wait(lambda: str(self.script("return window.noted") or "")))

    def width(self, pixels: int, height: int = 800) -> None:
        resize(self.driver, pixels, height)

    def violations(self) -> list[str]:
        found = Axe().run(self.driver)["violations"]
        return [f"{one['id']}: {[node['target'] for node in one['nodes']][:4]}" for one in found]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Videos of the three ways of playing, indexed by their captions and names; the environment of the program."""
    base = tmp_path_factory.mktemp("page")
    videos = base / "videos"
    videos.mkdir()
    coloured().write(videos / "garden.mp4")
    (videos / "garden.srt").write_text(CAPTIONS)
    coloured().write(videos / "harbour.mkv")
    as_avi(videos / "harbour.mkv", videos / "tape.avi")
    (base / "clamr.toml").touch()
    environment = os.environ | {
        "CLAMR_CONFIG": str(base / "clamr.toml"), "CLAMR_DB": str(base / "index"), "CLAMR_CACHE": str(base / "cache"),
        "CLAMR_ENCODER": "hashed", "CLAMR_SPEECH": "no", "CLAMR_TEXT": "no",
    }  # fmt: skip
    command = [
        sys.executable,
        "-m",
        "clamr_cli",
        "index",
        str(videos),
        "--encoder",
        "hashed",
        "--no-speech",
        "--no-ocr",
    ]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return videos, environment


@pytest.fixture(scope="module")
def address(shelf: tuple[Path, dict[str, str]]) -> Iterator[str]:
    with serving(shelf[1], "--encoder", "hashed", "--allow-write") as address:
        yield address


@pytest.fixture(scope="module")
def driver(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browsing(tmp_path_factory.mktemp("profile")) as browser:
        browser.get(address)
        yield browser


@pytest.fixture
def page(driver: Any, address: str, shelf: tuple[Path, dict[str, str]]) -> Page:
    page = Page(driver, re.sub(r"\?.*", "", address), shelf[0])
    page.width(1280)
    page.open()
    return page


def test_all_frames_of_a_video_are_prepared_and_asked_from_its_page(page: Page) -> None:
    page.search("lighthouse keeper")[0].click()
    page.one("#tab-frames").click()
    offer = page.one("#panel .empty button")
    assert page.violations() == []
    offer.click()
    best, *_ = page.wait(lambda: page.all("#panel a.card"))
    assert {mark.text for mark in page.all("#panel mark")} == {"lighthouse", "keeper"}
    assert page.violations() == []
    page.listen("seeking")
    best.click()
    assert 8 <= page.noted() < 13


def test_a_hit_plays_at_its_moment_and_a_click_in_the_time_line_seeks(page: Page) -> None:
    first, *_ = page.search("lighthouse keeper")
    assert "garden" in first.text.lower()
    assert "lighthouse" in {mark.text for mark in page.all("#hits mark")}
    page.listen("playing")
    first.click()
    assert 9 <= page.noted() < 12
    assert page.one("#stage").get_attribute("data-way") == "direct"
    page.wait(lambda: page.time > 9.5)
    frames = page.script("return document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames")
    assert frames > 1
    assert "v=" in page.driver.current_url
    # The middle of the metadata lane is the middle of the video, whose entries are as long as it is.
    page.script("document.querySelector('video').pause()")
    lanes = page.one(".lanes")
    page.listen("seeking")
    webdriver.ActionChains(page.driver).move_to_element_with_offset(lanes, 0, 45).click().perform()
    assert 7.8 < page.noted() < 8.2
    page.wait(lambda: int(lanes.get_attribute("aria-valuenow")) >= 8)
    # A click in a long caption goes to where it points.
    size = lanes.size
    page.listen("seeking")
    webdriver.ActionChains(page.driver).move_to_element_with_offset(
        lanes, round(size["width"] * (10 / 16 - 0.5)), 36 - size["height"] // 2
    ).click().perform()
    assert 9.8 < page.noted() < 10.2


def test_a_picture_finds_what_looks_like_it(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (2000, 1500), COLOURS[2]).save(tmp_path / "blue.png")
    page.wait(lambda: len(page.all("#hits a.card")) == 3)
    page.driver.find_element(By.ID, "file").send_keys(str(tmp_path / "blue.png"))
    assert page.script("return arguments[0].complete", page.one("#example img"))
    page.wait(lambda: page.all("#hits .line"))
    page.all("#hits a.card")[0].click()
    page.wait(lambda: 8 <= page.time < 12)
    assert not page.all("#tab-why")
    assert page.violations() == []
    page.one("#example button").click()
    page.wait(lambda: not page.all("#example img") and len(page.all("#hits a.card")) == 3)


def test_the_explanation_and_the_transcript_lead_to_the_moment(page: Page) -> None:
    page.search("lighthouse keeper")[0].click()
    row = page.one("table.why tbody tr")
    assert "lighthouse" in row.text
    assert "Rank 1 of 3" in page.one("#panel").text
    page.one("#tab-said").click()
    rows = page.wait(lambda: page.all("#panel .row"))
    assert [row.text.split()[0] for row in rows] == ["0:01", "0:09", "0:13"]
    page.listen("seeking")
    rows[2].click()
    assert 13 <= page.noted() < 13.5
    assert page.wait(lambda: page.all("#panel .row[aria-current]"))[0].text.startswith("0:13")
    tracks = "return [...document.querySelectorAll('track')].map(t => t.kind)"
    assert page.script(tracks) == ["captions"]
    page.one("#tab-file").click()
    assert "garden.mp4" in page.one("#panel").text


@pytest.mark.parametrize(("name", "way"), [("harbour.mkv", "remux"), ("tape.avi", "transcode")])
def test_other_files_are_played_and_sought_in(page: Page, name: str, way: str) -> None:
    page.one("#hits")
    page.wait(lambda: len(page.all("#hits a.card")) == 3)
    next(card for card in page.all("#hits a.card") if name in card.text or Path(name).stem in card.text).click()
    page.ready(0)
    page.wait(lambda: page.time > 0.4)
    page.script("document.querySelector('video').pause()")
    assert page.one("#stage").get_attribute("data-way") == way
    for second in (13.0, 5.0, 9.5):
        page.script("document.querySelector('video').currentTime = arguments[0]", second)
        page.ready(second)
        assert abs(page.time - second) < 0.3
        page.wait(lambda second=second: page.colour() == int(second // 4))
    page.script("document.querySelector('video').play()")
    page.wait(lambda: page.time > 10)


def test_keys(page: Page) -> None:
    page.wait(lambda: len(page.all("#hits a.card")) == 3)
    page.press(Keys.ESCAPE, "/")
    assert page.driver.switch_to.active_element.get_attribute("id") == "q"
    page.press("garden", Keys.ENTER)
    page.wait(lambda: "q=garden" in page.driver.current_url and page.all("#hits a.card"))
    page.wait(lambda: not page.script("return document.querySelector('#results').ariaBusy"))
    page.press("j", Keys.ENTER)
    page.wait(lambda: page.time > 0 and not page.paused)
    page.press(Keys.SPACE)
    page.wait(lambda: page.paused)
    page.script("document.querySelector('video').currentTime = 2")
    page.press(Keys.ARROW_RIGHT)
    page.wait(lambda: 6.5 < page.time < 7.5)
    page.press("?")
    assert "Keyboard" in page.one("dialog[open]").text
    page.press(Keys.ESCAPE)
    page.wait(lambda: not page.all("dialog[open]"))
    page.press(Keys.ESCAPE)
    page.wait(lambda: not page.all("#watch"))


def test_the_address_is_the_state(page: Page) -> None:
    page.search("lighthouse keeper")[0].click()
    page.ready(9)
    link = page.driver.current_url
    page.driver.back()
    page.wait(lambda: not page.all("#watch") and page.all("#hits a.card"))
    page.driver.back()
    page.wait(lambda: len(page.all("#hits a.card")) == 3 and "q=" not in page.driver.current_url)
    page.driver.get(link)
    page.ready(9)
    assert page.one("#q").get_attribute("value") == "lighthouse keeper"


def test_a_hostile_title_stays_text(page: Page) -> None:
    cards = page.wait(lambda: page.all("#hits a.card"))
    assert any(HOSTILE in card.text for card in cards)
    page.search("garden")[0].click()
    page.wait(lambda: HOSTILE in page.one("#title").text)
    assert page.script("return document.querySelectorAll('img[src=x], #title b, .name b').length") == 0
    refused = [entry["message"] for entry in page.driver.get_log("browser") if "Security Policy" in entry["message"]]
    assert refused == []


def test_nothing_is_wider_than_a_phone(page: Page) -> None:
    page.width(360, 740)
    for address in ("", "?q=lighthouse+keeper", "?q=garden&view=grid"):
        page.open(address)
        page.wait(lambda: page.all("#hits a.card"))
        assert page.script("return document.documentElement.scrollWidth") <= 360
    page.all("#hits a.card")[0].click()
    page.wait(lambda: page.all("#tabs button"))
    for tab in ("why", "said", "written", "file"):
        page.script("document.getElementById(arguments[0]).click()", f"tab-{tab}")
        assert page.script("return document.documentElement.scrollWidth") <= 360
    assert not page.all("#results")
    page.one("#close").click()
    page.wait(lambda: page.all("#hits a.card"))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(page: Page, theme: str) -> None:
    page.script("localStorage.setItem('clamr-theme', arguments[0])", theme)
    page.open()
    page.wait(lambda: page.all("#hits a.card"))
    assert page.violations() == []
    page.search("lighthouse keeper")[0].click()
    page.wait(lambda: page.all("table.why"))
    assert page.violations() == []


def test_reasons_and_absent_files_are_said(page: Page) -> None:
    page.open("?q=garden&folder=%2Fnowhere")
    assert page.one(".empty .what").text == "Nothing was found"
    hidden = page.folder / "tape.gone"
    (page.folder / "tape.avi").rename(hidden)
    try:
        page.open()
        page.wait(lambda: page.all("#hits a.card"))
        next(card for card in page.all("#hits a.card") if "tape" in card.text).click()
        assert "no file of video" in page.one("#stage-note p").text
        loaded = "return [...document.querySelectorAll('#hits img')].every(i => i.complete && i.naturalWidth > 0)"
        page.wait(lambda: page.script(loaded))
    finally:
        hidden.rename(page.folder / "tape.avi")
