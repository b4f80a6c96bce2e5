"""The command line: a few commands for people, and one a stage of the workflow, which is imported when it runs."""

import json
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
    from typer.core import TyperCommand
except ModuleNotFoundError:
    sys.exit("nclens: the command line needs the workflow's packages: pip install 'nclens[workflow]'")

from nclens import __version__
from nclens.workflow import specs
from nclens.workflow.failures import enough_memory, lost_readers
from nclens.workflow.files import exclusive
from nclens.workflow.paths import RECORD, RunFolder, StudyFolder
from nclens.workflow.specs import decode

STAGES = "Stages of the workflow, which Snakemake runs"

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="What a loss does to a network's representation, seen through neural collapse.",
    epilog="A first study: `nclens init my-study && cd my-study && nclens run`.",
)


def print_version(wanted: bool) -> None:
    """Print the version and exit, for `--version`."""
    if wanted:
        typer.echo(f"nclens {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before a subcommand."""


def spec_of(kind: type) -> Any:
    """Return the option `--spec` of a stage, whose JSON text is read as that kind of specification."""

    def read(text: str) -> Any:
        try:
            return decode(kind, text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return typer.Option("--spec", parser=read, metavar="JSON", help="what the stage uses of the study")


Folder = Annotated[Path, typer.Option(help="a folder")]
File = Annotated[Path, typer.Option(help="a file")]
Code = Annotated[str, typer.Option(help="digest of the code, recorded with what it makes")]
DataDir = Annotated[Path, typer.Option(envvar="NCLENS_DATA_DIR", help="folder of raw data, shared by all studies")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads")]


def texts(text: str) -> dict[str, str]:
    """Return the mapping of texts that a JSON text holds."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"is no JSON: {error}") from None
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise typer.BadParameter(f"{text}: must be a mapping of texts")
    return content


Texts = Annotated[dict, typer.Option(parser=texts, metavar="JSON", help="of the user's data files, by key")]
Sources = Annotated[dict, typer.Option(parser=texts, metavar="JSON", help="folders of runs that other studies made")]


@app.command(rich_help_panel=STAGES)
def resolve(spec: Annotated[specs.Resolve, spec_of(specs.Resolve)], output: File) -> None:
    """Write the resolved study."""
    from nclens.workflow.stages.resolve import resolve

    resolve(spec, output)


@app.command(rich_help_panel=STAGES)
def prepare(
    spec: Annotated[specs.Prepare, spec_of(specs.Prepare)],
    data: File,
    manifest: File,
    data_dir: DataDir = Path("data"),
    paths: Texts = "{}",  # type: ignore[assignment]
    digests: Texts = "{}",  # type: ignore[assignment]
) -> None:
    """Prepare a data set once for all runs."""
    from nclens.workflow.stages.prepare import prepare

    with exclusive(data.with_suffix(".lock"), str(data)):
        prepare(spec, data, manifest, data_dir, paths, digests)


@app.command(rich_help_panel=STAGES)
def train(
    spec: Annotated[specs.Train, spec_of(specs.Train)],
    code: Code,
    data: File,
    manifest: File,
    run: Folder,
    threads: Threads = 1,
) -> None:
    """Train one network."""
    with exclusive(RunFolder(run).training_lock, str(run)) as waited, enough_memory(spec):
        from nclens.workflow.stages.train import train

        train(spec, code, data, manifest, run, threads, waited)


@app.command(rich_help_panel=STAGES)
def ingest(
    spec: Annotated[specs.Ingest, spec_of(specs.Ingest)],
    code: Code,
    data: File,
    manifest: File,
    run: Folder,
    checkpoints: Annotated[str, typer.Option(help="path of the files, with {epoch} for the epoch and * for any text")],
    digest: Annotated[str, typer.Option(help="of the files' contents when the workflow was planned")] = "",
    threads: Threads = 1,
) -> None:
    """Take up networks that were trained elsewhere, or recorded features."""
    from nclens.study.imported import matching

    with exclusive(RunFolder(run).lock, str(run)), enough_memory(spec):
        from nclens.workflow.stages.ingest import ingest

        ingest(spec, code, data, manifest, run, matching(checkpoints, spec.epoch), digest, threads)


@app.command(rich_help_panel=STAGES)
def extract(
    spec: Annotated[specs.Extract, spec_of(specs.Extract)],
    data: File,
    manifest: File,
    run: Folder,
    threads: Threads = 1,
    earlier: Annotated[bool, typer.Option("--earlier", help="write the features that are not kept too")] = False,
) -> None:
    """Extract the features of a run's snapshots."""
    with exclusive(RunFolder(run).lock, str(run)), enough_memory(spec):
        from nclens.workflow.stages.extract import extract

        extract(spec, data, manifest, run, threads, earlier)


@app.command(rich_help_panel=STAGES)
def measure(spec: Annotated[specs.Measure, spec_of(specs.Measure)], run: Folder, threads: Threads = 1) -> None:
    """Measure collapse and calibration of a run's features."""
    with exclusive(RunFolder(run).lock, str(run)):
        from nclens.workflow.stages.measure import measure

        measure(spec, run, threads)


@app.command(rich_help_panel=STAGES)
def probe(
    spec: Annotated[specs.ProbeRun, spec_of(specs.ProbeRun)],
    root: Folder,
    threads: Threads = 1,
    hypotheses: Annotated[bool, typer.Option("--hypotheses", help="write translations of text too")] = False,
) -> None:
    """Probe a run's networks: on other data, or sample by sample."""
    from nclens.workflow.stages.probe import probe

    run = StudyFolder(root).run(spec.run)
    with exclusive(run.probe_lock, str(run.probes)):
        probe(spec, root, threads, hypotheses)


@app.command(rich_help_panel=STAGES)
def theory(
    spec: Annotated[specs.Theory, spec_of(specs.Theory)],
    root: Folder,
    output: File,
    dynamics: File,
    regression: File,
) -> None:
    """Evaluate the unconstrained feature model."""
    from nclens.workflow.stages.theory import theory

    with exclusive(StudyFolder(root).lock("theory"), str(output)):
        theory(spec, root, output, dynamics, regression)


@app.command(rich_help_panel=STAGES)
def predict(
    spec: Annotated[specs.Predict, spec_of(specs.Predict)],
    metrics: File,
    root: Folder,
    output: File,
    effective: File,
    nc0: File,
    sources: Sources = "{}",  # type: ignore[assignment]
) -> None:
    """Compare trained networks with the unconstrained feature model, and with the law of NC0."""
    from nclens.workflow.stages.predict import predict

    with exclusive(StudyFolder(root).lock("predict"), str(output)):
        predict(spec, metrics, root, output, effective, nc0, sources)


@app.command(rich_help_panel=STAGES)
def reuse(
    spec: Annotated[specs.Reuse, spec_of(specs.Reuse)],
    root: Folder,
    sources: Sources,
    digests: Annotated[dict, typer.Option(parser=texts, metavar="JSON", help="when the workflow was planned")],
) -> None:
    """Take up runs that other studies have made."""
    from nclens.workflow.stages.reuse import reuse

    with exclusive(StudyFolder(root).lock("reuse"), str(StudyFolder(root).reused)):
        reuse(spec, root, sources, digests)


@app.command(rich_help_panel=STAGES)
def collect(
    spec: Annotated[specs.Collect, spec_of(specs.Collect)],
    root: Folder,
    output: File,
    sources: Sources = "{}",  # type: ignore[assignment]
) -> None:
    """Collect all runs' measurements into one table."""
    from nclens.workflow.stages.collect import collect

    with exclusive(StudyFolder(root).lock("collect"), str(output)):
        collect(spec, root, output, sources)


@app.command(rich_help_panel=STAGES)
def judge(
    spec: Annotated[specs.Judge, spec_of(specs.Judge)],
    metrics: File,
    theory: File,
    dynamics: File,
    predictions: File,
    nc0: File,
    claims: File,
    page: File,
    specifications: File,
    record: File,
    code: Code,
) -> None:
    """Judge the papers' claims."""
    from nclens.workflow.stages.judge import judge

    tables = {"dynamics": dynamics, "predictions": predictions, "nc0": nc0, "specifications_csv": specifications}
    with exclusive(StudyFolder(claims.parent).lock("judge"), str(claims)):
        judge(spec, metrics, theory, claims, page, **tables, record=record, code=code)


@app.command(rich_help_panel=STAGES)
def draw(
    spec: Annotated[specs.Draw, spec_of(specs.Draw)],
    metrics: File,
    theory: File,
    dynamics: File,
    predictions: File,
    regression: File,
    nc0: File,
    root: Folder,
    threads: Threads = 1,
    sources: Sources = "{}",  # type: ignore[assignment]
) -> None:
    """Draw the figures."""
    from nclens.workflow.stages.draw import draw

    own = [f"{experiment.experiment}_{figure.name}" for experiment in spec.experiments for figure in spec.own_figures]
    with exclusive(StudyFolder(root).lock("_".join(["draw", *own])), str(StudyFolder(root).figures)):
        tables = {"dynamics": dynamics, "predictions": predictions, "regression": regression, "nc0": nc0}
        draw(spec, metrics, theory, root, threads=threads, sources=sources, **tables)


@app.command(rich_help_panel=STAGES)
def report(
    spec: Annotated[specs.Report, spec_of(specs.Report)],
    root: Folder,
    output: File,
    sources: Sources = "{}",  # type: ignore[assignment]
) -> None:
    """Write the study's page."""
    from nclens.workflow.stages.report import report

    with exclusive(StudyFolder(root).lock("report"), str(output)):
        report(spec, root, output, sources)


track = typer.Typer(no_args_is_help=True, help="Record runs and the study in MLflow.")
app.add_typer(track, name="track", rich_help_panel=STAGES)


@track.command("setup")
def track_setup(spec: Annotated[specs.TrackSetup, spec_of(specs.TrackSetup)], root: Folder) -> None:
    """Create the database's schema and the study's experiment."""
    from nclens.workflow.stages.track import track_setup

    with exclusive(StudyFolder(root).lock("track_setup"), f"{root} (setup)"):
        track_setup(spec, root)


@track.command("run")
def track_run(spec: Annotated[specs.TrackRun, spec_of(specs.TrackRun)], root: Folder) -> None:
    """Record a run."""
    from nclens.workflow.stages.track import track_run

    with exclusive(StudyFolder(root).run(spec.run).lock, f"{root} (run)"):
        track_run(spec, root)


@track.command("study")
def track_study(spec: Annotated[specs.TrackStudy, spec_of(specs.TrackStudy)], root: Folder) -> None:
    """Record the study."""
    from nclens.workflow.stages.track import track_study

    with exclusive(StudyFolder(root).lock("track_study"), f"{root} (study)"):
        track_study(spec, root)


# --- commands for people ---------------------------------------------------------------------------------------------


def path(text: str) -> Path:
    """Return the path that is written; an empty one, as of an unset variable, is not the current folder."""
    if not text:
        raise typer.BadParameter("is empty; allowed: a path")
    return Path(text)


Given = Annotated[Path, typer.Argument(parser=path)]


class PassedOn(TyperCommand):
    """A command whose words are another program's, but for --help as the first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take every word as it stands."""
        return super().parse_args(ctx, args if args[:1] == ["--help"] else ["--", *args])


@app.command()
def init(
    folder: Given,
    study: Annotated[str | None, typer.Option(help="copy this study of the package, such as losses")] = None,
) -> None:
    """Write a first study into a folder: study.yaml and, with its data, network and loss, my_parts.py."""
    from nclens.workflow.start import init

    written = init(folder, study)
    typer.echo(f"wrote {', '.join(map(str, written))}")
    typer.echo("next: " + ("nclens run" if folder == Path() else f"cd {shlex.quote(str(folder))} && nclens run"))


@app.command(cls=PassedOn, context_settings={"ignore_unknown_options": True})
def run(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STUDY.yaml] [SNAKEMAKE OPTIONS]",
            help="the study, by default study.yaml of this folder, and options of Snakemake: --cores 2, --dry-run, ...",
        ),
    ] = None,
) -> None:
    """Check a study and run it by Snakemake: results and mlflow.db are written to this folder."""
    from nclens.workflow.start import run

    run(words or [])


@app.command()
def check(
    study: Given,
    data: Annotated[bool, typer.Option("--data", help="read its data sets too, downloads included")] = False,
    model: Annotated[bool, typer.Option("--model", help="call its networks and your losses once too")] = False,
    data_dir: Annotated[
        Path | None, typer.Option(parser=path, help="folder of raw data, by default the study's")
    ] = None,
) -> None:
    """Check a study's YAML file and say what it would run."""
    from nclens.workflow.check import check_file, checked_lines

    checked = check_file(study)
    if data or model:
        from nclens.workflow import trials
        from nclens.workflow.reused import check_reused_data

        found = trials.read_data(checked, data_dir or Path(checked.data_dir))
        check_reused_data(checked, found)
        for line in trials.described_data(found):
            typer.echo(line)
        trials.check_batches(checked, found)
        for line in trials.tried_networks(checked, found) if model else ():
            typer.echo(line)
    for line in checked_lines(study, checked):
        typer.echo(line)


@app.command()
def show(root: Given) -> None:
    """Print a study's verdicts and where its results are."""
    from nclens.workflow.running import show_verdicts

    show_verdicts(root)


@app.command()
def power(
    study: Annotated[
        Path, typer.Argument(parser=path, help="folder of its results, such as results/digits, or its YAML file")
    ],
    margin: Annotated[
        list[str] | None, typer.Option(help="MEASURE=SIZE, in place of the claim's own; may be given again")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="print CSV, the measures too, with all digits")] = False,
) -> None:
    """Say how many seeds would decide each claim, from the spread of those that ran and the margins."""
    from nclens.workflow.finished.power import show_power

    show_power(study, margin or (), csv)


AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
AsCsv = Annotated[bool, typer.Option("--csv", help="print CSV, with all digits")]
AsHtml = Annotated[bool, typer.Option("--html", help="print an HTML table")]


@app.command("measure-file")
def measure_file(file: Given, as_json: AsJson = False, as_csv: AsCsv = False, as_html: AsHtml = False) -> None:
    """Print every metric of features made elsewhere: an .npz with features, labels or targets, weight, perhaps bias."""
    form = _form(json=as_json, csv=as_csv, html=as_html)
    from nclens.report.values import ALONE, values_table
    from nclens.workflow.build.metrics import measure_arrays
    from nclens.workflow.files import read_features

    values = measure_arrays(read_features(file))
    typer.echo(values_table({metric: {ALONE: value} for metric, value in values.items()}, form))


def _form(**chosen: bool) -> str:
    """Return the form of a table that is printed: the one that is chosen, else text."""
    named = [form for form, is_chosen in chosen.items() if is_chosen]
    if len(named) > 1:
        raise typer.BadParameter(f"--{' and --'.join(named)}: one of them is allowed")
    return named[0] if named else "text"


def plain_yaml(text: str) -> Any:
    """Return what a text holds as YAML: a number, a word, a list or a table."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise typer.BadParameter(f"{text}: is no YAML: {error}") from None


@app.command("measure-network")
def measure_network(
    checkpoint: Annotated[str, typer.Argument(help="a file of weights, or a folder of Hugging Face")],
    model: Annotated[str, typer.Option(help="module:function that builds the network, or the name of a model")],
    data: Annotated[str, typer.Option(help="FILE.yaml#NAME: an entry of `datasets` in that file")],
    normalise: Annotated[
        Any,
        typer.Option(parser=plain_yaml, metavar="YAML", help="'{mean: [...], std: [...]}', data or none"),
    ],
    parameters: Annotated[
        Any, typer.Option(parser=plain_yaml, metavar="YAML", help="keyword arguments of the model")
    ] = "{}",
    resize: Annotated[Any, typer.Option(parser=plain_yaml, metavar="PIXELS", help="N, or [H, W]")] = None,
    crop: Annotated[Any, typer.Option(parser=plain_yaml, metavar="PIXELS", help="N, or [H, W]")] = None,
    prefix: Annotated[str | None, typer.Option(help="what the names of the weights begin with")] = None,
    key: Annotated[str | None, typer.Option(help="what the weights are under")] = None,
    expected_error: Annotated[float | None, typer.Option(help="test error that the network is to have")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto")] = "cpu",
    data_dir: DataDir = Path("data"),
    threads: Threads = 1,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    as_html: AsHtml = False,
) -> None:
    """Print every metric of a network trained elsewhere, on a data set; its error and preprocessing come first."""
    form = _form(json=as_json, csv=as_csv, html=as_html)
    from nclens.report.values import values_table
    from nclens.workflow.one_network import measure_network

    chosen = {"normalise": normalise, "resize": resize, "crop": crop, "prefix": prefix, "key": key}
    chosen |= {"expected_error": expected_error, "device": device}
    values = measure_network(checkpoint, model, parameters, data, data_dir, chosen, threads)
    typer.echo(values_table(values, form))


@app.command()
def retry(root: Given) -> None:
    """Let runs that failed be tried again although nothing changed: a run's folder, or one with many runs in it."""
    from nclens.workflow.failures import forget_failures

    records = forget_failures(_existing(root))
    for record in records:
        typer.echo(f"{record.parent} will be tried again")
    if not records:
        typer.echo(f"no run below {root} has failed for good: there is nothing to try again")


@app.command()
def unlock() -> None:
    """Remove the lock of a killed Snakemake, if none is alive in this folder."""
    from nclens.workflow.running import remove_stale_lock

    remove_stale_lock(Path.cwd())


@app.command()
def snakefile() -> None:
    """Print the path of the workflow's Snakefile, for `snakemake --snakefile` and for `module` in one of your own."""
    from nclens.workflow.start import snakefile

    typer.echo(snakefile())


@app.command()
def forget(root: Given) -> None:
    """Delete a study's notes of what MLflow holds, so that the workflow records it again."""
    for path in [*_existing(root).rglob(RECORD), StudyFolder(root).setup]:
        path.unlink(missing_ok=True)


@app.command()
def ui(port: Annotated[int, typer.Option(help="port of the MLflow UI")] = 5000) -> None:
    """Open the MLflow UI on the studies that are recorded in this folder."""
    from nclens.workflow.start import show_ui

    show_ui(port)


@app.command("ui-links")
def ui_links(port: Annotated[int, typer.Option(help="port of the MLflow UI")] = 5000) -> None:
    """Print the addresses of the recorded studies in the MLflow UI."""
    from nclens.workflow.tracking import addresses

    for study, links in addresses(port).items():
        typer.echo(f"{study}")
        for what, link in links.items():
            typer.echo(f"  {what:11} {link}")


@app.command()
def film(
    root: Given,
    to: Annotated[Path, typer.Option(parser=path, help="the file: .gif, or .mp4 where ffmpeg is installed")],
    experiment: Annotated[str | None, typer.Option(help="by default the first")] = None,
    seed: Annotated[int | None, typer.Option(help="of the networks; by default the smallest")] = None,
    plane: Annotated[str | None, typer.Option(help="templates or principal; by default the first there is")] = None,
) -> None:
    """Write the film of a finished study's collapse, for slides."""
    from nclens.workflow.film import write_film

    made = write_film(root, to, experiment, seed, plane)
    typer.echo(f"{to}: {made.experiment}, seed {made.seed}, {len(made.epochs)} snapshots")


@app.command()
def export(
    study: Annotated[
        Path, typer.Argument(parser=path, help="folder of its results, such as results/digits, or its YAML file")
    ],
    to: Annotated[Path, typer.Option(parser=path, help="the folder to write to")],
    width: Annotated[str, typer.Option(help="of figures, in in, cm, mm or pt")] = "3.25in",
    font: Annotated[str, typer.Option(help="serif, sans-serif, monospace, or an installed family")] = "serif",
    size: Annotated[float, typer.Option(help="of the figures' text, in points")] = 9.0,
    figures: Annotated[str | None, typer.Option(help="names with commas, or none; by default all")] = None,
    digits: Annotated[int, typer.Option(help="significant digits of a number without an interval")] = 3,
) -> None:
    """Write a finished study for a paper: LaTeX tables, every number as a macro, figures, CSVs and references."""
    from nclens.workflow.finished.export import described, export

    for line in described(export(study, to, width, font, size, figures, digits), to):
        typer.echo(line)


@app.command()
def pack(
    study: Annotated[
        Path, typer.Argument(parser=path, help="folder of the results, such as results/digits, or the YAML file")
    ],
    to: Annotated[Path | None, typer.Option(parser=path, help="the archive, by default STUDY.zip")] = None,
    networks: Annotated[str | None, typer.Option(help="the networks too: their last snapshots, or all")] = None,
    features: Annotated[bool, typer.Option("--features", help="the features too")] = False,
    data: Annotated[bool, typer.Option("--data", help="the prepared data sets too: mind their licences")] = False,
    title: Annotated[str | None, typer.Option(help="by default the study's")] = None,
    description: Annotated[str | None, typer.Option(help="by default what was trained on what")] = None,
    author: Annotated[list[str] | None, typer.Option(help="'Name' or 'Name <ORCID>'; may be given again")] = None,
    license: Annotated[str | None, typer.Option(help="SPDX identifier such as CC-BY-4.0, or an address")] = None,
) -> None:
    """Write a finished study into one archive, an RO-Crate, for a data repository or a reviewer."""
    from nclens.workflow.files import sha256_of
    from nclens.workflow.finished.crate import About
    from nclens.workflow.finished.pack import Chosen, pack

    about = About(title, description, tuple(author or ()), license)
    written, left_out = pack(study, to, about, Chosen(networks, features, data))
    for path in left_out:
        typer.echo(f"left out, for the archive has no place for it: {path}")
    typer.echo(f"{written}: {written.stat().st_size / 1e6:.1f} MB, SHA-256 {sha256_of(written)}")


@app.command()
def unpack(
    archive: Given,
    to: Annotated[Path | None, typer.Option(parser=path, help="a new folder, by default the archive's name")] = None,
) -> None:
    """Unpack a study that `nclens pack` has written, and check every file; nothing is run."""
    from nclens.workflow.files import sha256_of
    from nclens.workflow.finished.archive import unpack

    results = unpack(archive, to)
    typer.echo(f"{results}: every file is as it was packed; SHA-256 of {archive}: {sha256_of(archive)}")


@app.command()
def atlas(
    studies: Annotated[
        list[Path],
        typer.Argument(
            parser=path,
            help="folders of results, archives of `nclens pack` and tables that `atlas` has written, such as results/*",
        ),
    ],
    to: Annotated[Path, typer.Option(parser=path, help="the folder to write to")] = Path(),
    link: Annotated[
        str | None, typer.Option(help="where a study's cells lead, with {study} for its name; by default to its page")
    ] = None,
) -> None:
    """Write atlas.html and atlas.csv: every claim over all studies, what holds and where.

    A study that is unfinished or of another version is shown as such, and named at the end with exit code 1. Of other
    files in results/, snakemake.html, atlas.html and atlas.log are passed over; anything else is refused.
    """
    from nclens.workflow.finished.atlas import atlas, described

    made = atlas(studies, to, link)
    typer.echo(described(made, to))
    if made.problems:
        raise ValueError("\n".join(made.problems))


@app.command()
def schema(output: Annotated[Path | None, typer.Option(parser=path, help="write to this file")] = None) -> None:
    """Print the JSON schema of a study, for editors."""
    from nclens.study import json_schema
    from nclens.workflow.files import write_json

    if output is None:
        typer.echo(json.dumps(json_schema(), indent=2, sort_keys=True, ensure_ascii=False))
    else:
        write_json(output, json_schema())


def _existing(root: Path) -> Path:
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}; allowed: that of a study or run, such as results/digits")
    return root


def _said(error: Exception) -> str:
    """Return an error's message; that of the operating system without its number, the file first."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def main() -> None:
    """Run a subcommand; a user's mistake ends with one message and exit code 1, without a traceback."""
    name = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")
    # Until a stage handles it in its own way, Ctrl-C ends the process as a shell expects, without a traceback.
    signal.signal(signal.SIGINT, lambda number, frame: sys.exit(128 + number))
    try:
        with lost_readers():
            app()
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("NCLENS_TRACEBACK"):
            raise
        print(f"nclens {name}: {_said(error)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
