"""Headless Chromium for tests of what a person sees; the fixture `chromium` of conftest.py starts it once a worker.

    page = chromium.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.goto(path.as_uri())

Needs a Chromium or Chrome of this machine (Debian's package chromium); Playwright's own download is not used.
"""

import contextlib
import shutil
from collections.abc import Iterator

#: Without these Chromium looks for its maker's servers at every start.
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def executable() -> str | None:
    """Return the path of an installed Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextlib.contextmanager
def launched() -> Iterator:
    """Yield a Playwright `Browser`; it is closed at the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=list(QUIET))
        try:
            yield browser
        finally:
            browser.close()
