"""A page in a browser."""

import pytest


@pytest.fixture
def shown_page(chromium, tmp_path):
    """Open a page, a text, in a browser; errors of its script, and what it loads, fail the test."""
    errors, contexts = [], []

    def show(text, width=1280, **looks):
        path = tmp_path / "page.html"
        path.write_text(text, encoding="utf-8")
        contexts.append(chromium.new_context(viewport={"width": width, "height": 844}, **looks))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: errors.append(request.url) if request.url[:4] == "http" else None)
        page.goto(path.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert not errors
