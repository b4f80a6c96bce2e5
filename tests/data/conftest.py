"""Fixtures for the tests of data sources."""

import pytest

from tests.data.server import serve


@pytest.fixture
def site(monkeypatch):
    """A local web server, reached without a proxy; broken connections are retried without a pause."""
    from nclens.data import download

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with serve() as site:
        yield site
