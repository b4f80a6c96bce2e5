"""What the tests of data sources share."""

import pytest

from tests.data.server import serve


@pytest.fixture
def site(monkeypatch):
    """A web server on this machine; no proxy stands between, and broken connections are taken up again at once."""
    from nclens.data import download

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with serve() as site:
        yield site
