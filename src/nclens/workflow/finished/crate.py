"""What the crate of an archived study says: its metadata, a page to begin with, and a README.

Workflow Run Crate 0.5, https://w3id.org/ro/wfrun/workflow/0.5, on RO-Crate 1.1.
"""

from __future__ import annotations

import datetime
import hashlib
import html
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nclens.workflow.finished.archive import MANIFEST, METADATA
from nclens.workflow.paths import StudyFolder

if TYPE_CHECKING:
    from rocrate.rocrate import ROCrate

PREVIEW, README = "ro-crate-preview.html", "README.md"
#: The profiles that a crate conforms to, by address.
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
#: Terms beyond those of RO-Crate 1.1, `sha256` among them.
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
#: Where programs are described.
HOMES = {
    "python": "https://www.python.org",
    "torch": "https://pytorch.org",
    "torchvision": "https://pytorch.org/vision",
    "numpy": "https://numpy.org",
    "scipy": "https://scipy.org",
    "pandas": "https://pandas.pydata.org",
    "mlflow": "https://mlflow.org",
    "snakemake": "https://snakemake.readthedocs.io",
}
#: The format of a file, by its ending.
FORMATS = {
    **{".csv": "text/csv", ".tsv": "text/tab-separated-values", ".json": "application/json", ".html": "text/html"},
    **{".yaml": "application/yaml", ".yml": "application/yaml", ".md": "text/markdown", ".log": "text/plain"},
    **{".png": "image/png", ".pdf": "application/pdf", ".svg": "image/svg+xml", ".py": "text/x-python"},
    **{".parquet": "application/vnd.apache.parquet", ".rst": "text/x-rst", ".txt": "text/plain"},
    **{".lock": "text/plain", ".smk": "text/x-python", "": "text/x-python"},
}
UNKNOWN_FORMAT = "application/octet-stream"
NO_LICENCE = "No licence is stated: ask the authors before you use or share these results."


@dataclass(frozen=True)
class About:
    """What a data repository asks for.

    Attributes:
        title: by default the study's.
        description: by default what was trained on what.
        authors: each `Name` or `Name <ORCID>`.
        licence: an SPDX identifier such as CC-BY-4.0, or the address of a licence.

    Raises:
        ValueError: an author without a name, an ORCID with a wrong form or check digit, an unknown licence.
    """

    title: str | None = None
    description: str | None = None
    authors: tuple[str, ...] = ()
    licence: str | None = None

    def __post_init__(self) -> None:
        _ = self.people, self.terms

    @property
    def people(self) -> list[tuple[str, str]]:
        """Name and address of each author; the address of an author without an ORCID is one in the crate."""
        return [_person(author) for author in self.authors]

    @property
    def terms(self) -> tuple[str, str]:
        """Address and name of the licence."""
        from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

        if self.licence is None:
            return "#licence", NO_LICENCE
        if re.fullmatch(r"https?://\S+", self.licence):
            return self.licence, self.licence
        try:
            name = str(canonicalize_license_expression(self.licence))
        except InvalidLicenseExpression:
            name = " "
        if " " in name:
            raise ValueError(
                f"--license {self.licence}: allowed: one SPDX identifier (https://spdx.org/licenses) such as "
                "CC-BY-4.0, CC0-1.0 or MIT, or the address of a licence"
            )
        return f"https://spdx.org/licenses/{name}", name


def _person(author: str) -> tuple[str, str]:
    match = re.fullmatch(r"\s*([^<>]*[^<>\s])\s*(?:<(?:https?://orcid\.org/)?([^<>]*)>)?\s*", author)
    if match is None or (match[2] is not None and not _is_orcid(match[2])):
        raise ValueError(f"--author {author!r}: allowed: a name, or 'Name <0000-0002-1825-0097>' with the ORCID")
    return match[1], f"https://orcid.org/{match[2]}" if match[2] else f"#{quote(match[1])}"


def _is_orcid(text: str) -> bool:
    """Return whether a text is an ORCID with a right check digit (ISO 7064, MOD 11-2)."""
    if not re.fullmatch(r"\d{4}-\d{4}-\d{4}-\d{3}[\dX]", text):
        return False
    total = 0
    for digit in text.replace("-", "")[:-1]:
        total = (total + int(digit)) * 2
    return "0123456789X"[(12 - total % 11) % 11] == text[-1]


@dataclass(frozen=True)
class Content:
    """An archived study.

    Attributes:
        study: its name.
        title: the one of its configuration; may be empty.
        configuration: the name of its YAML file in the archive.
        losses: labels of its losses.
        records: `run.json` of each of its runs.
        manifests: of its data sets, by name.
        digests, sizes: SHA-256 and bytes of each file, by its name in the archive.
        texts: what files are, by name.
        repository: address of the page of nclens's repository, where it is known.
    """

    study: str
    title: str
    configuration: str
    losses: list[str]
    records: list[dict[str, Any]]
    manifests: dict[str, dict[str, Any]]
    digests: Mapping[str, str]
    sizes: Mapping[str, int]
    texts: Mapping[str, str]
    repository: str | None = None

    @property
    def root(self) -> str:
        """The folder of the results in the archive."""
        return f"results/{self.study}"

    @property
    def resolved(self) -> str:
        """The study with every default in the archive."""
        return StudyFolder(Path(self.root)).resolved.as_posix()

    @property
    def page(self) -> str:
        """The study's page in the archive."""
        return StudyFolder(Path(self.root)).report.as_posix()

    @property
    def results(self) -> list[str]:
        """The names of the files that the run made, sorted."""
        return [name for name in sorted(self.digests) if name.startswith(f"{self.root}/")]

    @cached_property
    def times(self) -> tuple[str, str] | None:
        """When the first run began and the last one ended, ISO 8601; None where no record says."""
        ended = [(datetime.datetime.fromisoformat(run["finished"]), run) for run in self.records if "finished" in run]
        if not ended:
            return None
        began = min(end - datetime.timedelta(seconds=float(run.get("wall_time") or 0)) for end, run in ended)
        return began.isoformat(timespec="seconds"), max(end for end, _ in ended).isoformat(timespec="seconds")

    def all_of(self, key: str) -> list[str]:
        """The different values that the runs' records have of a key, sorted."""
        return sorted({str(run[key]) for run in self.records if run.get(key)})

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the programs that the runs were made with, several joined by a comma."""
        found: dict[str, set[str]] = {}
        for run in self.records:
            for program, version in run.get("versions", {}).items():
                found.setdefault(program, set()).add(version)
        return {program: ", ".join(sorted(found[program])) for program in sorted(found)}

    @property
    def command(self) -> str:
        """The command that runs the study again."""
        return f"snakemake --configfile {self.configuration} --cores all"


def crate_of(content: Content, about: About) -> dict[str, bytes]:
    """Return the files that describe an archive: the crate's metadata, the page to begin with, and the README."""
    title = about.title or content.title or f"The study {content.study}"
    description = about.description or _description(content)
    written = {
        README: _readme(content, about, title, description).encode(),
        PREVIEW: _preview(content, about, title, description).encode(),
    }
    crate = _crate(content, about, title, description, written)
    metadata = json.dumps(crate.metadata.generate(), indent=2, sort_keys=True, ensure_ascii=False)
    return {**written, METADATA: f"{metadata}\n".encode()}


def _description(content: Content) -> str:
    data = ", ".join(str(manifest.get("source", name)) for name, manifest in content.manifests.items())
    return (
        f"A study of neural collapse: {len(content.records)} networks with the losses {', '.join(content.losses)} on "
        f"{data}; their measures, verdicts on published claims, figures, and the workflow that made them."
    )


# --- the metadata ----------------------------------------------------------------------------------------------------


def _crate(content: Content, about: About, title: str, description: str, written: Mapping[str, bytes]) -> ROCrate:
    """Return the crate; its files are named, not read."""
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version="1.1")
    crate.metadata.extra_contexts.append(TERMS)
    root = crate.root_dataset
    root["name"], root["description"] = title, description
    # The same study gives the same archive: not the time of packing.
    root["datePublished"] = content.times[1][:10] if content.times else "1980-01-01"
    root["license"] = _add(crate, about.terms[0], "CreativeWork", name=about.terms[1], description=about.terms[1])
    people = [_add(crate, address, "Person", name=name) for name, address in about.people]
    if people:
        root["author"] = root["creator"] = people if len(people) > 1 else people[0]
    profiles = [_add(crate, where, "CreativeWork", name=n, version=v) for where, (n, v) in PROFILES.items()]
    workflow = _workflow(crate, content)
    files = {name: _file(crate, content, name) for name in sorted(content.digests) if name != "Snakefile"}
    _written(crate, written)
    results = crate.add_dataset(dest_path=content.root, properties={"name": f"Results of the study {content.study}"})
    results["hasPart"] = [files[name] for name in content.results]
    workflow["hasPart"] = [files[name] for name in files if name.startswith(("rules/", "profiles/"))]
    action = _action(crate, content, files, people)
    root["mentions"] = action
    root["conformsTo"] = profiles
    return crate


def _add(crate: ROCrate, identifier: str, kind: str, **properties: Any) -> Any:
    """Add an entity that is no file of the crate, once."""
    from rocrate.model.contextentity import ContextEntity

    known = crate.get(identifier)
    return known or crate.add(ContextEntity(crate, identifier, properties={"@type": kind, **properties}))


def _file(crate: ROCrate, content: Content, name: str) -> Any:
    properties = _facts(name, content.digests[name], content.sizes[name])
    if name in content.texts:
        properties["description"] = content.texts[name]
    return crate.add_file(dest_path=name, properties=properties)


def _facts(name: str, digest: str, size: int) -> dict[str, str]:
    """Return what the metadata say of every file."""
    encoding = FORMATS.get(PurePosixPath(name).suffix.lower(), UNKNOWN_FORMAT)
    return {"name": name, "encodingFormat": encoding, "contentSize": str(size), "sha256": digest}


def _written(crate: ROCrate, written: Mapping[str, bytes]) -> None:
    """Add the files that describe the crate."""
    for name, text in written.items():
        facts = _facts(name, hashlib.sha256(text).hexdigest(), len(text))
        entity = crate.add_file(dest_path=name, properties=facts)
        entity["about"] = crate.root_dataset
    listed = {"name": MANIFEST, "encodingFormat": "text/plain", "description": "The SHA-256 of every other file"}
    crate.add_file(dest_path=MANIFEST, properties=listed)


def _workflow(crate: ROCrate, content: Content) -> Any:
    """Add the workflow, which is the crate's main entity, and what it needs."""
    name, versions = "Snakefile", content.versions
    workflow = crate.add_workflow(
        dest_path=name,
        main=True,
        lang="snakemake",
        lang_version=versions.get("snakemake"),
        properties={
            **_facts(name, content.digests[name], content.sizes[name]),
            "name": "nclens",
            "description": "Trains networks, measures their collapse, judges claims, draws figures and writes a page",
            "version": versions.get("nclens", "unknown"),
            **({"url": content.repository} if content.repository else {}),
        },
    )
    workflow["license"] = _add(crate, "https://spdx.org/licenses/MIT", "CreativeWork", name="MIT")
    makers = _add(crate, "#nclens", "Organization", name="The nclens developers")
    workflow["author"] = workflow["creator"] = workflow["sdPublisher"] = makers
    programs = [
        _add(crate, HOMES[program], "SoftwareApplication", name=program, softwareVersion=version, url=HOMES[program])
        for program, version in versions.items()
        if program in HOMES
    ]
    workflow["softwareRequirements"] = programs
    codes = {"git revision": content.all_of("git_revision"), "digest of the code": content.all_of("code")}
    workflow["identifier"] = [
        _add(crate, f"#{what.split()[0]}-{value}", "PropertyValue", name=what, value=value)
        for what, values in codes.items()
        for value in values
    ]
    return workflow


def _action(crate: ROCrate, content: Content, files: Mapping[str, Any], people: list[Any]) -> Any:
    """Add the run of the workflow: what it read, what it made, when, by whom."""
    text = "".join(f"{name} {content.digests[name]}\n" for name in content.results)
    identifier = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, text)}"
    action = _add(crate, identifier, "CreateAction", name=f"Run of the study {content.study}")
    revisions, codes = content.all_of("git_revision"), content.all_of("code")
    action["description"] = (
        f"{content.command}; nclens {content.versions.get('nclens', 'unknown')}"
        + (f", git revision {', '.join(revisions)}" if revisions else "")
        + (f", digests of the code that trained: {', '.join(codes)}" if codes else "")
    )
    if content.times:
        # The runs' own records: when the page was written is in no file.
        action["startTime"], action["endTime"] = content.times
    action["instrument"] = crate.mainEntity
    made = {*content.results, "Snakefile"}
    given = [name for name in files if name not in made and not name.startswith(("rules/", "profiles/", "results/"))]
    action["object"] = [*(files[name] for name in given), *_data(crate, content)]
    logs = (f"{content.root}/logs/", f"{content.root}/benchmarks/")
    action["result"] = [files[name] for name in content.results if not name.startswith(logs)]
    for name in content.results:
        if name.startswith(logs):
            files[name]["about"] = action
    action["actionStatus"] = "http://schema.org/CompletedActionStatus"
    if people:
        action["agent"] = people if len(people) > 1 else people[0]
    return action


def _data(crate: ROCrate, content: Content) -> list[Any]:
    """Add the data sets, which are described and not contained."""
    found = []
    for name, manifest in content.manifests.items():
        facts = {"name": name, "description": manifest.get("source", name), "sha256": manifest["sha256"]}
        facts |= {
            key: manifest[of] for key, of in (("license", "licence"), ("citation", "citation")) if manifest.get(of)
        }
        found.append(_add(crate, f"#data-{quote(name)}", "CreativeWork", **facts))
    return found


# --- for people ------------------------------------------------------------------------------------------------------


def _facts_for_people(content: Content, about: About) -> dict[str, str]:
    facts = {"Authors": ", ".join(name for name, _ in about.people), "Licence": about.terms[1]}
    facts["Data"] = "; ".join(
        f"{name}: {manifest.get('source', name)} (licence: {manifest.get('licence') or 'not stated'})"
        for name, manifest in content.manifests.items()
    )
    facts["Software"] = ", ".join(f"{program} {version}" for program, version in content.versions.items())
    facts["Code"] = ", ".join(filter(None, (content.repository, *content.all_of("git_revision"))))
    return {key: text for key, text in facts.items() if text}


def _readme(content: Content, about: About, title: str, description: str) -> str:
    facts = "".join(f"* {key}: {text}\n" for key, text in _facts_for_people(content, about).items())
    return f"""# {title}

{description}

{facts}
| file | what |
|---|---|
| `{content.page}` | the page of the study: verdicts, figures, tables, provenance; open it in a browser |
| `{content.root}/` | tables, those of the theory in `theory/`, figures, each with its CSV, and runs |
| `{content.configuration}`, `{content.resolved}` | the configuration, and the same with every default |
| `Snakefile`, `rules/`, `profiles/` | the workflow |
| `envs/requirements.lock` | versions of the packages |
| `{MANIFEST}` | SHA-256 of every file |
| `{METADATA}` | all this for programs: an [RO-Crate](https://w3id.org/ro/crate), profile Workflow Run Crate |

`sha256sum -c {MANIFEST}` checks every file. `nclens unpack ARCHIVE.zip` unpacks the archive and checks it too.
To run the study again, install nclens and the packages of `envs/requirements.lock`; then `{content.command}`.
"""


def _preview(content: Content, about: About, title: str, description: str) -> str:
    def row(key: str, text: str) -> str:
        return f"<dt>{html.escape(key)}</dt><dd>{html.escape(text)}</dd>"

    def entry(name: str) -> str:
        size = f"{content.sizes[name]:,}"
        return f'<tr><td><a href="{quote(name)}">{html.escape(name)}</a></td><td>{size}</td></tr>'

    facts = "".join(row(key, text) for key, text in _facts_for_people(content, about).items())
    files = "\n".join(entry(name) for name in sorted(content.digests))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title>
<style>
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #222 }}
dt {{ font-weight: bold }} dd {{ margin: 0 0 .5rem }} td {{ padding: 0 1rem 0 0 }} td + td {{ text-align: right }}
.page {{ font-size: 1.2rem }}
</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
<p>{html.escape(description)}</p>
<p class="page"><a href="{quote(content.page)}">The page of the study</a></p>
<dl>{facts}</dl>
<h2>Files</h2>
<table>
<tr><th>file</th><th>bytes</th></tr>
{files}
</table>
</body>
</html>
"""
