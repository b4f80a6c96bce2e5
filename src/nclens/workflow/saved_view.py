"""The view of a study that is saved in MLflow: one link opens its UI on the curves of neural collapse, by loss.

MLflow keeps a saved view in a tag of the experiment. Its state is that of the UI's page of runs, as JSON, compressed.
The UI has no interface for it: tests/workflow/test_saved_view.py says whether the installed MLflow still reads ours. A
UI that does not know saved views ignores the tag.
"""

import base64
import json
import time
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

KEY = "collapse"
TAG = f"mlflow.sharedViewState.{KEY}"
NAME = "Neural collapse"
#: Without it the UI opens an experiment on its page for language models.
TRAINING = "workflowType=machine_learning"
#: Which runs are trained networks: those that the study's own run and aggregates are not.
TRAINED = "tags.`nclens.kind` = 'run'"

#: Task -> metric and scale of each chart, in their order.
CHARTS = {
    "classification": {
        "train/nc1": "log",
        "train/nc2": "linear",
        "train/nc3": "linear",
        "test/error": "linear",
        "test/ece": "linear",
        "train/epoch_loss": "log",
    },
    "regression": {
        "train/nrc1": "log",
        "train/nrc2": "log",
        "train/nrc3": "linear",
        "test/mse": "linear",
        "test/r2": "linear",
        "train/epoch_loss": "log",
    },
}
#: Sections below, folded: the first part of every other metric's name.
FOLDED = ("train", "test", "run")


def tag(tasks: Iterable[str], by: Sequence[str]) -> str:
    """Return the value of the experiment's tag `TAG`.

    Args:
        tasks: of the study's experiments, keys of `CHARTS`.
        by: the parameters that runs are grouped by; a line is the mean of a group, its band from lowest to highest.
    """
    now = int(time.time() * 1000)
    packed = base64.b64encode(zlib.compress(json.dumps(state(tasks, by)).encode(), 9)).decode()
    return json.dumps({"name": NAME, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"})


def state(tasks: Iterable[str], by: Sequence[str]) -> dict[str, Any]:
    """Return the state of the UI's page of runs: what it shows, of which runs, in which order."""
    charts = {metric: scale for task in sorted(tasks) for metric, scale in CHARTS[task].items()}
    columns = [f"params.`{name}`" for name in by] + [f"metrics.`{metric}`" for metric in charts]
    sections = [(KEY, NAME, True), *((name, name, False) for name in FOLDED)]
    return {
        "searchFilter": TRAINED,
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "param", "groupByData": name} for name in by],
        },
        "useGroupedValuesInCharts": True,
        "runsHiddenMode": "SHOW_ALL",
        "hideEmptyCharts": True,
        "selectedColumns": [*columns, "attributes.`Duration`", "attributes.`Models`"],
        # So that the charts' titles have room; the legends name the groups.
        "runListHidden": True,
        "compareRunCharts": [_chart(metric, scale) for metric, scale in charts.items()],
        "compareRunSections": [
            {"uuid": uuid, "name": name, "display": shown, "isReordered": True, "deleted": False, "isGenerated": True}
            for uuid, name, shown in sections
        ],
        "isAccordionReordered": True,
    }


def _chart(metric: str, scale: str) -> dict[str, Any]:
    return {
        "type": "LINE",
        "uuid": f"{KEY}/{metric}",
        "metricSectionId": KEY,
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "displayName": metric,
        "deleted": False,
        "isGenerated": True,
        "runsCountToCompare": 10,
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "scaleType": scale,
        "range": {},
        "lineSmoothness": 0,
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


def links(base: str, experiment: str, saved: bool) -> dict[str, str]:
    """Return the addresses of a study's curves and of its table of runs.

    Args:
        base: address of the UI, with its `#`.
        experiment: the experiment's id.
        saved: whether the experiment has the view; an address with a view that is not there is an error in the UI.
    """
    address = f"{base}/experiments/{experiment}/runs?{TRAINING}" + (f"&viewStateShareKey={KEY}" if saved else "")
    return {"curves": f"{address}&compareRunsMode=CHART", "runs": address}


def artifact(experiment: str, run: str, path: str) -> str:
    """Return the address of a run's file in the UI, from any of its pages."""
    return f"#/experiments/{experiment}/runs/{run}/artifacts/{path}?{TRAINING}"
