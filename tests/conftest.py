"""What several test modules share."""

import copy
import os
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import settings

ROOT = Path(__file__).parent.parent

# Elsewhere every run draws new examples; continuous integration judges a change, so it draws the same ones each time.
# No example is timed: how long one takes says more of the machine's other work than of the code.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_collection_modifyitems(items):
    """Deal out first what mostly waits for servers and clusters, so that the other workers use the time."""
    items.sort(key=lambda item: (item.path.parent.name != "cluster", item.get_closest_marker("workflow") is None))


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tests run side by side: one thread each."""
    torch.set_num_threads(1)


@pytest.fixture
def raw_study():
    """The parsed smoke study, a fresh copy."""
    return copy.deepcopy(yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def simulate():
    """A maker of simulated experiments, for figures and what shows them."""
    from tests.figures.simulate import simulate as make

    return make


@pytest.fixture(autouse=True)
def _denormal_numbers_again():
    """A stage that trains flushes denormal numbers for the rest of its process, which tests of tiny numbers share."""
    yield
    torch.set_flush_denormal(False)
