"""What tests of the callbacks share."""

import pytest


@pytest.fixture
def wandb(monkeypatch):
    """Weights & Biases, which remembers folder and mode of a process's first run unless it is torn down."""
    found = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    found.teardown()
    yield found
    found.teardown()
