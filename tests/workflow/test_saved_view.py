"""The saved view is what the installed MLflow reads, and its UI opens on the collapse with no click."""

import base64
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
import zlib
from pathlib import Path

import mlflow
import psutil
import pytest
from mlflow.entities import Metric, Param

from nclens.metrics.catalogue import MEASUREMENTS
from nclens.training.history import HISTORY
from nclens.workflow import saved_view, tracking

ROOT = Path(__file__).parents[2]
UI = Path(mlflow.__file__).parent / "server" / "js" / "build" / "static" / "js"


def read(value):
    """The name and state in a tag, as the UI reads them."""
    content = json.loads(value)
    assert isinstance(content["createdAt"], int)
    assert content["state"].startswith("deflate;")
    packed = content["state"].removeprefix("deflate;")
    return content["name"], json.loads(zlib.decompress(base64.b64decode(packed)))


def test_a_view_has_a_chart_for_each_metric_and_groups_by_its_parameters():
    name, state = read(saved_view.tag(["classification"], ["dataset", "loss"]))
    assert name == "Neural collapse"
    assert [chart["metricKey"] for chart in state["compareRunCharts"]] == list(saved_view.CHARTS["classification"])
    assert state["compareRunCharts"][0]["scaleType"] == "log"
    first, *others = state["compareRunSections"]
    assert first["display"]
    assert not any(section["display"] for section in others)
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == {first["uuid"]}
    assert [key["groupByData"] for key in state["groupBy"]["groupByKeys"]] == ["dataset", "loss"]
    assert state["searchFilter"] == "tags.`nclens.kind` = 'run'"
    both = saved_view.state(["regression", "classification"], ["loss"])["compareRunCharts"]
    uuids = [chart["uuid"] for chart in both]
    assert len(uuids) == len(set(uuids)) == 11


def test_it_fits_a_tag_and_names_metrics_that_exist():
    assert len(saved_view.tag(saved_view.CHARTS, ["dataset", "model", "loss"])) < 5000
    known = {metric.name for measurement in MEASUREMENTS for metric in measurement.metrics} | set(HISTORY.values())
    for charts in saved_view.CHARTS.values():
        for metric in charts:
            split, name = metric.split("/")
            assert split in ("train", "test")
            assert name in known


def test_the_installed_mlflow_knows_every_word_of_it():
    """Its compiled UI has them; what it does with them is tested in a browser below."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in UI.glob("*.js"))
    state = saved_view.state(["classification"], ["loss"])
    words = {*state, *state["compareRunCharts"][0], *state["compareRunSections"][0], *state["groupBy"]}
    missing = {word for word in words if word not in code}
    assert not missing
    for word in ("mlflow.sharedViewState.", "viewStateShareKey", "deflate;", "SHOW_ALL", "machine_learning"):
        assert f'"{word}"' in code


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """`make ui` on a study of two losses and two seeds, and the lines that it prints."""
    folder = tmp_path_factory.mktemp("served")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        record()
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, str(ROOT / "envs" / "server.py"), "--ui", "--port", str(port)]
    with (folder / "printed").open("w") as printed:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=printed, stderr=printed)
    try:
        deadline = time.monotonic() + 120
        while "stops the UI" not in (text := (folder / "printed").read_text()):
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.2)
        yield process, text
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended by itself
            for started in [*psutil.Process(process.pid).children(recursive=True), process]:
                started.terminate()
        process.wait(30)


def record():
    """Record trained runs, an aggregate and the study as the stage does; metrics alone."""
    experiment = tracking.set_up(
        "two", Path("results/two"), {saved_view.TAG: saved_view.tag(["classification"], ["loss"])}
    )
    with tracking.connected() as client:
        for kind, loss, seed in [
            *(("run", loss, seed) for loss in ("ce", "ls") for seed in (0, 1)),
            ("aggregate", "ce", 0),
            ("study", "", 0),
        ]:
            tags = {tracking.KIND: kind, "nclens.loss": loss}
            run = client.create_run(experiment, run_name=f"{kind}-{loss}-{seed}", tags=tags).info.run_id
            names = (*saved_view.CHARTS["classification"], "train/a", "test/b", "run/c", "claims/d")
            points = [Metric(name, (seed + 1) * 0.1**epoch, 0, epoch) for name in names for epoch in (1, 2, 3)]
            client.log_batch(run, points, [Param("loss", loss or "none")])
            client.set_terminated(run)


def until(page, condition):
    """Wait for a condition in a page; the UI's security policy forbids Playwright's own way."""
    deadline = time.monotonic() + 120
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, page.inner_text("body")
        page.wait_for_timeout(300)


@pytest.mark.slow
def test_the_printed_link_opens_on_the_collapse_with_no_click(served, chromium):
    _, printed = served
    curves, table = re.findall(r"http\S+", printed)[-2:]
    page = chromium.new_page(viewport={"width": 1440, "height": 1400})
    page.set_default_timeout(120_000)
    page.goto(curves)
    drawn = "[...document.querySelectorAll('.js-plotly-plot')].filter(plot => plot.data.length >= 4).length >= 6"
    until(page, drawn)
    plots = page.evaluate(
        """[...document.querySelectorAll('.js-plotly-plot')].map(plot => ({
            scale: plot._fullLayout.yaxis.type,
            bands: plot.data.filter(trace => trace.fill && trace.fill != 'none').length,
        }))"""
    )
    assert [plot["scale"] for plot in plots] == list(saved_view.CHARTS["classification"].values())
    # A line and its band a loss; neither the study's run nor an aggregate.
    assert all(plot["bands"] == 2 for plot in plots)
    text = page.inner_text("body")
    titles = [text.index(metric) for metric in saved_view.CHARTS["classification"]]
    assert titles == sorted(titles)
    assert "ce (train/nc1)" in text
    assert "ls (train/nc1)" in text
    assert "does not exist" not in text

    page.goto("about:blank")
    page.goto(table)
    until(page, "document.body.innerText.includes('Group: ls')")
    text = page.inner_text("body")
    assert "Group: ce" in text
    assert "Group: ls" in text
    assert "study--0" not in text
    assert "aggregate-ce-0" not in text
    page.close()


@pytest.mark.slow
def test_the_ui_is_two_processes_prints_its_links_last_and_sends_nothing(served):
    process, printed = served
    lines = printed.strip().splitlines()
    assert [line.split()[0] for line in lines[-4:]] == ["two", "curves", "runs", "Ctrl-C"]
    assert len(lines) <= 9
    server = psutil.Process(process.pid)
    assert len(server.children(recursive=True)) == 1
    port = re.search(r"127.0.0.1:(\d+)", printed).group(1)
    address = f"http://127.0.0.1:{port}/ajax-api/3.0/mlflow/ui-telemetry"
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert json.load(answer)["disable_ui_telemetry"]
