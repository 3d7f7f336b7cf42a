"""The picture of the page in the README: ``python -m tests.page_picture`` searches the clips of ``clamr demo``."""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from PIL import Image

from clamr_cli import demo
from tests.browser import browsing, resize, serving

TARGET: Final = Path(__file__).resolve().parents[1] / "clamr_cli" / "docs" / "page.png"
QUERY: Final = "how bees find flowers"
SIZE: Final = (1280, 860)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="keeps the clips and their index for the next time")
    parser.add_argument("--query", default=QUERY)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = (given.folder or Path(made)).absolute()
        folder.mkdir(exist_ok=True)
        if not (folder / "clips").is_dir():
            demo.make_clips(folder / "clips")
        environment = os.environ | {"CLAMR_DB": str(folder / "index")}
        command = [sys.executable, "-m", "clamr_cli", "index", "clips"]
        subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True)
        with serving(environment) as address, browsing(Path(made) / "profile") as browser:
            resize(browser, *SIZE)
            browser.get(address)
            query = "const [q, done] = arguments; fetch(`/api/v1/search?q=${q}`).then((r) => r.json()).then(done)"
            hit = browser.execute_async_script(query, given.query)["hits"][0]
            browser.execute_script("localStorage.setItem('clamr-theme', 'light')")
            browser.get(f"{address.partition('?')[0]}?q={given.query}&v={hit['video_id']}&t={hit['open_at'] + 1}")
            ready = (
                "const v = document.querySelector('video'); return v.readyState > 1 && !!document.querySelector('.why')"
            )
            while not browser.execute_script(ready):
                time.sleep(0.1)
            time.sleep(1)
            # No path of this machine is in the picture.
            places = "for (const one of document.querySelectorAll('.place'))"
            hide = f"{places} one.textContent = one.textContent.split('·')[0]"
            browser.execute_script(hide)
            picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    picture.quantize(200, dither=Image.Dither.NONE).save(TARGET, optimize=True)
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
