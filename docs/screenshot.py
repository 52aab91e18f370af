"""Takes the screenshot of the report page that README shows: `make screenshot`.

It opens `report/index.html` (written by `make run`) in a headless Chromium and writes
`docs/images/report.png`. Chromium comes from the system (`apt-get install chromium`), or is named
by `GENEBENCH_CHROMIUM`.
"""

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "report" / "index.html"
PICTURE = ROOT / "docs" / "images" / "report.png"
WIDTH, HEIGHT = 1280, 860


def main() -> None:
    """Write the picture.

    Raises:
        SystemExit: There is no report page or no Chromium; the message says what to run.
    """
    if not PAGE.is_file():
        sys.exit(f"{PAGE} does not exist; run `make run` first")
    program = os.environ.get("GENEBENCH_CHROMIUM") or shutil.which("chromium")
    if program is None:
        sys.exit("no chromium found; run `apt-get install chromium`, or set GENEBENCH_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(PAGE.as_uri())
        page.wait_for_load_state("networkidle")
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
