"""Where the numbers come from, and how to reproduce them."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nclens.report.links import Link, Links
from nclens.report.page import Cell, Column, Section, Table
from nclens.report.text import Names, as_text, duration, number, plural


def _tally(values: Iterable[Any]) -> str:
    """The distinct values, each with how many runs had it where they differ."""
    counts = Counter(text for value in values if (text := as_text(value)))
    if len(counts) < 2:
        return "".join(counts)
    return ", ".join(f"{text} ({plural(count, 'run')})" for text, count in counts.items())


def provenance(
    names: Names,
    datasets: Mapping[str, Mapping[str, Any]],
    runs: Mapping[tuple[str, str, str, int], Mapping[str, Any]],
    links: Links,
) -> Section:
    """Return where the numbers come from: data, software, machine, durations."""
    known = [(experiment, key, runs[key]) for experiment, key in names.runs() if key in runs]
    experiments = names.experiments.values()
    wanted = list(
        dict.fromkeys(name for entry in experiments for name in (entry["dataset"], *entry.get("transfer", ())))
    )
    packages = list(dict.fromkeys(package for _, _, record in known for package in record.get("versions", {})))
    software = [(name, _tally(record.get("versions", {}).get(name) for _, _, record in known)) for name in packages]
    for label, field_name in (
        *(("git revision", "git_revision"), ("device", "device")),
        *(("threads a run", "threads"), ("parameters of the network", "parameters")),
        ("floating-point operations a sample, forward", "flops_per_sample"),
        ("inputs of imported networks", "preprocessing"),
    ):
        software.append((label, _tally(record.get(field_name) for _, _, record in known)))
    finished = sorted(as_text(record["finished"]) for _, _, record in known if record.get("finished"))
    if finished:
        software.append(("finished", " to ".join(dict.fromkeys((finished[0], finished[-1])))))
    spent: dict[tuple[str, str], list[float]] = {}
    for experiment, key, record in known:
        # Runs of another study took no time of this one's.
        if record.get("wall_time") is not None and "/".join(key[:3]) not in links.elsewhere:
            spent.setdefault((experiment, key[2]), []).append(float(record["wall_time"]))
    several = len(names.experiments) > 1
    rows = [
        [
            *([Cell(experiment)] if several else []),
            Cell("", loss=names.loss(experiment, loss)),
            Cell(str(len(times)), len(times)),
            Cell(duration(sum(times)), sum(times)),
            Cell(duration(sum(times) / len(times)), sum(times) / len(times)),
        ]
        for (experiment, loss), times in spent.items()
    ]
    columns = [
        *([Column("Experiment")] if several else []),
        *(Column("Loss"), Column("Runs", numeric=True)),
        *(Column("Together", numeric=True), Column("Mean of a run", numeric=True)),
    ]
    times = [time for group in spent.values() for time in group]
    content = {
        "datasets": [
            {
                "name": name,
                "rows": _manifest(datasets[name], [record for _, key, record in known if key[0] == name]),
                "links": [
                    *links.file("manifest", name, text="manifest"),
                    links.rule("prepare"),
                    *links.log("prepare", name),
                ],
            }
            for name in wanted
            if name in datasets
        ],
        "software": [
            (key, links.revision(value) if key == "git revision" else Link(value)) for key, value in software if value
        ],
        "durations": Table(columns, rows),
        "reused": _reused(names, links),
        "total": f"{plural(len(times), 'run')}, {duration(sum(times))} of training when added up.",
        "missing": [f"data/{name}.json" for name in wanted if name not in datasets]
        + [f"{'/'.join(key[:3])}/seed{key[3]}/run.json" for _, key in names.runs() if key not in runs],
    }
    return Section("provenance", "Provenance", "provenance.html.j2", content)


def _reused(names: Names, links: Links) -> Table | None:
    """The runs that other studies have made, a row a loss; None without any."""
    several = len(names.experiments) > 1
    rows = []
    for name, entry in names.experiments.items():
        for loss, source in names.reused(name).items():
            known = links.elsewhere.get(f"{entry['dataset']}/{entry['model']}/{loss}", {})
            page = links.file("report", text=source.study, root=f"{known.get('root', '')}/")
            rows.append(
                [
                    *([Cell(name)] if several else []),
                    *(Cell("", loss=names.loss(name, loss)), Cell(source.study, links=page)),
                    *(Cell(source.experiment), Cell(source.loss), Cell(known.get("sha256", ""))),
                ]
            )
    heads = ("Loss", "Study", "Experiment", "Loss there", "SHA-256 of its files")
    return Table([Column(text) for text in (*(["Experiment here"] if several else []), *heads)], rows) if rows else None


def _manifest(manifest: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """The rows of a data set's record as (label, text, kind), where kind is text, code or link."""
    same = sum(record.get("data_sha256") == manifest.get("sha256") for record in records)
    shape, classes = manifest.get("shape"), manifest.get("classes")
    used = "measured" if any("checkpoints" in record for record in records) else "trained"
    fields = {
        "source": manifest.get("source"),
        "licence": manifest.get("licence"),
        "citation": manifest.get("citation"),
        "training samples": manifest.get("train"),
        "test samples": manifest.get("test"),
        "validation samples": manifest.get("val"),
        "streamed from files of": f"{manifest['bytes'] / 1e6:,.1f} MB" if manifest.get("storage") == "stream" else None,
        "damaged files left out": _by_split(manifest["skipped"]) if "skipped" in manifest else None,
        "classes": len(classes) if isinstance(classes, list | tuple) else classes,
        "imbalance": _alteration(manifest.get("imbalance")),
        "samples a class": ", ".join(map(str, manifest["train_counts"])) if "imbalance" in manifest else None,
        "label noise": _alteration(manifest.get("label_noise")),
        "wrong training labels": manifest.get("noisy_labels"),
        "targets": ", ".join(manifest.get("targets", [])),
        "expert": _expert(manifest["expert"]) if "expert" in manifest else None,
        "simulator": ", ".join(f"{name} {version}" for name, version in manifest.get("simulator", {}).items()),
        **_tokens(manifest),
        "shape of a sample": " × ".join(map(str, shape)) if isinstance(shape, list | tuple) else shape,
        "temperature fitted on": _held_out(manifest) if classes else None,
        "SHA-256": manifest.get("sha256"),
        f"runs {used} on exactly this": f"{same} of {len(records)}" if records else None,
    }
    rows = []
    for key, value in fields.items():
        if text := as_text(value):
            address = re.fullmatch(r"https?://\S+", text)
            rows.append((key, text, "link" if address else "code" if key == "SHA-256" else "text"))
    return rows


def _tokens(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The target tokens of sequences by split, and what is not measured, not known or not trained on."""
    if manifest.get("task") != "sequences":
        return {}
    unknown = manifest.get("unknown", {})
    return {
        "target tokens": _by_split(manifest["tokens"]),
        f"classes with fewer than {manifest['min_samples']} measured tokens, left out": _by_split(
            {split: len(classes) for split, classes in manifest["left_out"].items()}
        ),
        "their tokens": _by_split(manifest["left_out_tokens"]),
        "unknown source tokens": _by_split({split: found["source"] for split, found in unknown.items()}),
        "unknown target tokens": _by_split({split: found["target"] for split, found in unknown.items()}),
        "training pairs left out for their length": manifest.get("too_long"),
    }


def _by_split(counts: Mapping[str, int]) -> str:
    """Numbers by split, such as `train 10, test 5`."""
    return ", ".join(f"{split} {count}" for split, count in counts.items())


def _alteration(chosen: Mapping[str, Any] | None) -> str | None:
    """An imbalance or label noise as the study has it, such as `kind step, ratio 10, seed 0`."""
    return None if chosen is None else ", ".join(f"{key} {value}" for key, value in chosen.items())


def _held_out(manifest: Mapping[str, Any]) -> str:
    """The held-out samples, and the test samples that scaled scores are of."""
    if manifest.get("held_out") == "val":
        return "the validation split; scores after scaling are of the whole test set"
    return "a held-out part of the test set; scores after scaling are of the rest"


def _expert(expert: Mapping[str, Any]) -> str:
    """The mean return of a data set's expert, with published ones."""

    def returns(entry: Mapping[str, Any]) -> str:
        return f"mean return {number(entry['mean_return'])} ± {number(entry['std_return'])}"

    own = f"{returns(expert)} (standard deviation) over {plural(int(expert['rollouts']), 'rollout')}"
    return "; ".join([own, *(f"published: {returns(entry)} ({entry['source']})" for entry in expert["published"])])


def reproduce(study: Mapping[str, Any], theory: bool, links: Links) -> Section:
    """Return the command that reproduces the study, and the files that it writes."""
    made = (e for e in study["experiments"] if set(e["losses"]) - set(e.get("origins", {})))
    places = dict.fromkeys(
        f"{entry['dataset']}/{model}/*/seed*/"
        for entry in made
        for model in dict.fromkeys(
            entry.get("models", {}).get(loss, entry["model"])
            for loss in entry["losses"]
            if loss not in entry.get("origins", {})
        )
    )
    before: dict[tuple[str, str], dict[str, None]] = {}
    for e in study["experiments"]:
        for loss, source in e.get("origins", {}).items():
            model = e.get("models", {}).get(loss, e["model"])
            known = links.elsewhere.get(f"{e['dataset']}/{model}/{loss}", {})
            before.setdefault((source.study, source.command), {})[known.get("sha256", "unknown")] = None
    content = {
        **{"command": study["command"], "name": study["study"], "theory": theory, "runs": list(places)},
        "before": [(*other, list(digests)) for other, digests in before.items()],
    }
    return Section("reproduce", "Reproduce it", "reproduce.html.j2", content, links.file("resolved"))
