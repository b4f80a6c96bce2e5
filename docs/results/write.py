"""Write docs/results/STUDY from a finished study: `python docs/results/write.py results/STUDY [--losses] [FIGURE ...]`.

Verdicts, settings, commit and times come from the study's files, figures are its PNGs with at most 256 colours, so that
they stay small; `--losses` adds the table of all losses. Networks that were trained elsewhere have a table of what was
measured. Nothing is typed in by hand but a figure's alternative text, which says what it shows and is that of
docs/gallery.md.
"""

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from PIL import Image

from nclens.report.effects import Effect, pair
from nclens.report.losses import split_of
from nclens.workflow import tables
from nclens.workflow.paths import StudyFolder

HERE = Path(__file__).parent
WIDTH = 1200
SHOWN = (
    *("epochs", "batch_size", "optimizer", "lr_schedule", "clip_gradient_norm"),
    *("augmentation", "precision", "record_every"),
)
UNUSED = (("nesterov", False), ("warmup_epochs", 0))
#: What a table of imported networks shows of each: label, metric, split.
MEASURED = (
    *(("error, training set", "error", "train"), ("error", "error", "test")),
    *(("ECE before scaling", "ece_unscaled", "test"), ("ECE after scaling", "ece_scaled", "test")),
    *(("temperature", "temperature", "test"), ("NC0", "nc0", "train")),
    *(
        (f"NC{k}, {name}", f"nc{k}", split)
        for k in (1, 2, 3)
        for name, split in (("training set", "train"), ("test set", "test"))
    ),
)


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}"


def verdicts(claims: pd.DataFrame) -> list[str]:
    """Return the table of verdicts, a line a claim and pair of losses."""
    lines = ["| claim | where | losses | effect [95% interval] | smallest effect to be seen | p, by Holm | verdict |"]
    lines.append("|---" * 7 + "|")
    for row in claims[claims["level"] == "claim"].to_dict("records"):
        effect, losses = Effect.of(row), pair(row["loss"], row["baseline"])
        verdict = ": ".join(filter(None, (row["verdict"], effect.reason)))
        p = ", ".join(filter(None, (effect.p, effect.p_holm)))
        cells = [f"{row['claim']}: {row['statement']}", row["experiment"], losses, effect.numbers]
        lines.append(f"| {' | '.join([*cells, effect.smallest, p, verdict])} |")
    return lines


def losses(table: pd.DataFrame) -> list[str]:
    """Return a table an experiment: a line a loss, a column a quantity; the best in bold where intervals show it."""
    lines = []
    for experiment, rows in table.groupby("experiment", sort=False):
        keys = list(dict.fromkeys(zip(rows["quantity"], rows["split"], strict=True)))
        cells = {(row.loss, row.quantity, row.split): cell(row) for row in rows.itertuples()}
        keys = [key for key in keys if any(cells[loss, *key] for loss in rows["loss"])]
        heads = [", ".join(filter(None, (quantity, split_of(quantity, split)))) for quantity, split in keys]
        lines += [f"| `{experiment}` | {' | '.join(heads)} |", "|---" * (len(keys) + 1) + "|"]
        for loss in dict.fromkeys(rows["loss"]):
            lines.append(f"| {loss} | {' | '.join(cells[loss, *key] for key in keys)} |")
        lines.append("")
    return lines


def cell(row: tuple) -> str:
    """Mean and half its interval."""
    if math.isnan(row.mean):
        return ""
    if math.isinf(row.mean):
        return "never"
    half = (row.high - row.low) / 2
    text = number(row.mean) + ("" if math.isnan(half) else f" ± {half:.2g}")
    return f"**{text}**" if row.best else text


def imported(experiment: str, networks: list[str], metrics: pd.DataFrame) -> list[str]:
    """Return a table of networks that were trained elsewhere: a line a network, a column a quantity."""
    rows = metrics[metrics["experiment"] == experiment]
    values = rows.groupby(["loss", "metric", "split"], observed=True)["value"].mean()
    lines = [f"| `{experiment}` | {' | '.join(label for label, *_ in MEASURED)} |", "|---" * (len(MEASURED) + 1) + "|"]
    for name in networks:
        cells = [number(values[name, metric, split]) for _, metric, split in MEASURED]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def source_of(study: str) -> str:
    """Return the file of a study, the default one's or one of studies/, as code."""
    top = HERE.parents[1]
    for file in sorted((top / "studies").rglob("*.yaml")):
        if f"\nstudy: {study}\n" in file.read_text(encoding="utf-8"):
            return f"`{file.relative_to(top)}`"
    return "`workflow_config.yaml`, the default study"


def settings(study: dict, runs: dict[str, dict]) -> list[str]:
    """Return a line for every experiment, as its runs were trained: losses may have weight decays of their own."""
    lines = []
    for name, entry in study["experiments"].items():
        if entry.get("kind") == "imported":
            files = [f"{loss} of {file}" for loss, seeds in entry["runs"].items() for file in seeds.values()]
            lines.append(
                f"* `{name}`: {entry['dataset']}, trained elsewhere, epoch {entry['epoch']}; {', '.join(files)}"
            )
            continue
        folder, seeds = f"{entry['dataset']}/{entry['model']}", entry["seeds"]
        specs = {loss: runs[f"{folder}/{loss}/seed{seeds[0]}"]["spec"] for loss in entry["losses"]}
        values = {key: values_of(specs, lambda spec, key=key: spec["training"][key]) for key in SHOWN}
        chosen = [f"{key} {value}" for key, value in values.items() if value != "None"]
        penalties = values_of(specs, lambda spec: spec["penalties"])
        chosen += [] if penalties == "None" else [f"penalties {penalties}"]
        lines.append(f"* `{name}`: {folder}, seeds {', '.join(map(str, seeds))}; {', '.join(chosen)}")
    return lines


def values_of(specs: dict[str, dict], pick: Callable[[dict], Any]) -> str:
    """Return one value where all losses have it, else each with its loss."""
    values = {loss: pick(spec) for loss, spec in specs.items()}
    values = {loss: text_of(value) for loss, value in values.items()}
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    return " and ".join(f"{value} ({loss})" for loss, value in values.items())


def text_of(value: Any) -> str:
    """Return a setting as text: of a table every key that is used, of an optimiser or schedule its kind first."""
    if not isinstance(value, dict):
        return number(value) if isinstance(value, float) else str(value)
    rest = {key: part for key, part in value.items() if key not in ("name", "kind", "arguments", "file")}
    parts = rest | value.get("arguments", {})
    kind = value.get("name") or value.get("kind")
    return " ".join(
        [
            *([kind] if kind else []),
            *(
                f"{key} {text_of(part)}"
                for key, part in parts.items()
                if (key, part) not in UNUSED and part is not None
            ),
        ]
    )


def runs_of(root: Path) -> dict[str, dict]:
    """Return every run's record by its path, data set/model/loss/seed."""
    paths = sorted(root.glob("*/*/*/seed*/run.json"))
    return {str(path.parent.relative_to(root)): json.loads(path.read_text(encoding="utf-8")) for path in paths}


def provenance(runs: list[dict]) -> list[str]:
    """Return when, of which commit and on what the networks were trained, and how long that took."""
    trained = [run for run in runs if "wall_time" in run]  # the others were trained elsewhere
    runs, measured = trained or runs, not trained
    commits = sorted({str(run["git_revision"])[:10] for run in runs})
    days = sorted({run["finished"][:10] for run in runs})
    if measured:
        return [f"{len(runs)} networks, measured on {days[-1]} at commit {', '.join(commits)}."]
    threads = sorted({run["threads"] for run in runs})
    minutes = sum(run["wall_time"] for run in runs) / 60
    devices = ", ".join(sorted({run["device"] for run in runs}))
    when = " to ".join(dict.fromkeys((days[0], days[-1])))
    return [
        f"{len(runs)} runs, trained on {when} at commit {', '.join(commits)}, "
        f"device {devices}, {threads[0]} thread each, PyTorch {runs[0]['versions']['torch']}; {minutes:.0f} minutes of "
        "training in all, on a machine that was shared."
    ]


def picture(source: Path, target: Path) -> None:
    """Write a figure with few colours: by octree, as median cut merges the colours of thin lines."""
    image = Image.open(source).convert("RGB")
    image.thumbnail((WIDTH, 10 * WIDTH), Image.Resampling.LANCZOS)
    image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(target, optimize=True)


def finding(image: str) -> str:
    """Return what a figure shows, from the gallery."""
    gallery = HERE.parent / "gallery.md"
    found = re.search(rf"!\[([^]]+)\]\(results/{re.escape(image)}\)", gallery.read_text(encoding="utf-8"))
    if found is None:
        raise SystemExit(f"{gallery} lacks results/{image}: add it there, with what it shows as its alternative text")
    return found[1]


def main(root: Path, figures: list[str], *, beside: bool) -> None:
    """Write README.md and the figures; with `beside` the losses side by side too."""
    of = StudyFolder(root)
    study = yaml.safe_load(of.resolved.read_text(encoding="utf-8"))
    folder = HERE / study["study"]
    folder.mkdir(exist_ok=True)
    claims = tables.read(tables.CLAIMS, of.claims)
    lines = [
        f"# {study['title'] or study['study']}",
        "",
        f"Of {source_of(study['study'])}. "
        + (
            "The rule of every verdict is in the report of the study; a loss has the name of its entry there."
            if len(claims)
            else "A network has the name of its entry there."
        ),
    ]
    for name, entry in study["experiments"].items():
        if entry.get("kind") == "imported":
            lines += ["", *imported(name, list(entry["runs"]), pd.read_parquet(of.metrics))]
    if beside:
        lines += [
            "",
            "Mean over seeds after the last epoch ± half its 95% interval; bold: the best, where "
            "the interval of its paired difference to every other loss excludes 0.",
            "",
        ]
        lines += losses(tables.read(tables.LOSSES, of.losses))
    runs = runs_of(root)
    lines += ["", *verdicts(claims)] if len(claims) else []
    lines += ["", "## Settings", "", *settings(study, runs), ""]
    lines += provenance(list(runs.values()))
    for figure in figures:
        picture(of.figures / f"{figure}.png", folder / f"{figure}.png")
        lines += ["", f"![{finding(f'{folder.name}/{figure}.png')}]({figure}.png)"]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    options = [name for name in sys.argv[2:] if name != "--losses"]
    main(Path(sys.argv[1]), options, beside="--losses" in sys.argv)
