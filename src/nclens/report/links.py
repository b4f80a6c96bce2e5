"""The ways out of the page: to papers, to the code at the commit of the runs, to files beside the page, to MLflow."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from nclens.claims import Claim

RULE_FILES = {
    "prepare": "data",
    "train": "train",
    "collect": "measure",
    "theory": "theory",
    "predict": "theory",
    "judge": "report",
    "draw": "report",
    "draw_own": "report",
    "report": "report",
}
"""Rule of the workflow -> its file in `rules/`."""


class Link(NamedTuple):
    """A text that leads somewhere; without an address it is only shown."""

    text: str
    address: str = ""


@dataclass(frozen=True)
class Links:
    """Where the page can lead.

    Attributes:
        folder: the study's files by their paths below its folder, as `report_page` takes it; None links none.
        has: path below the study's folder -> whether the file is there. Nothing else is linked.
        repository: address of the repository's page; empty where it is not known.
        commit: that the runs were made from; empty where it is not known.
        recorded: path of a run, or `study` -> its address in the MLflow UI; empty without a recording.
        elsewhere: DATASET/MODEL/LOSS -> `root`, the folder of the study that has the runs, below the study's own,
            `path`, that of the runs below it, and `tracking`, as `of` takes it.
    """

    folder: Any = None
    has: Callable[[str], bool] = lambda path: False
    repository: str = ""
    commit: str = ""
    recorded: Callable[[str], str] = lambda key: ""
    elsewhere: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        runs: Iterable[Mapping[str, Any]],
        folder: Any = None,
        has: Callable[[str], bool] | None = None,
        repository: str | None = None,
        tracking: Mapping[str, str] | None = None,
        elsewhere: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> "Links":
        """Return the links of a study.

        Args:
            runs: the records of its runs; most of them were made from the commit that is linked.
            folder: the study's files by their paths below its folder.
            has: path below the study's folder -> whether the file is there.
            repository: address of the repository's page.
            tracking: `uri` of the tracking server and `experiment_id` of the study, where it is recorded.
            elsewhere: the runs that other studies have made.
        """
        commits = Counter(commit for record in runs if (commit := commit_of(record.get("git_revision"))))
        most = commits.most_common(1)
        return cls(
            folder,
            has or (lambda path: False),
            repository or "",
            most[0][0] if most else "",
            recorded_at(tracking),
            elsewhere or {},
        )

    def file(self, kind: str, *of: str, text: str = "", root: str = "") -> list[Link]:
        """Return the link to a file of the study, none where it is not there.

        Args:
            kind: the property or method of `folder` that has its path.
            of: the arguments of a method.
            text: of the link; by default the name of the file.
            root: the folder of another study that has the file, below this one's, with a / at its end.
        """
        if self.folder is None:
            return []
        path = getattr(self.folder, kind)
        return self._there(path(*of) if of else path, text, root)

    def log(self, *of: str) -> list[Link]:
        """Return the link to what a job printed: of a step, or of one data set or figure."""
        return self.file("log", *of, text="log")

    def _there(self, path: Path, text: str, root: str) -> list[Link]:
        place = f"{root}{path.as_posix()}"
        return [Link(text or path.name, quote(place))] if self.has(place) else []

    def source(self, path: str, text: str) -> Link:
        """Return the link to a file or folder of the repository at the commit; just the text where it is not known."""
        kind = "blob" if "." in path.rsplit("/", 1)[-1] else "tree"
        known = self.repository and self.commit
        return Link(text, f"{self.repository}/{kind}/{self.commit}/{quote(path)}" if known else "")

    def rule(self, name: str) -> Link:
        """Return the link to a rule of the workflow."""
        return self.source(f"rules/{RULE_FILES[name]}.smk", f"rule {name}")

    def code(self, name: str, text: str = "") -> Link:
        """Return the link to a module, or to a function given as `module:name`."""
        return self.source(f"src/{name.split(':')[0].replace('.', '/')}.py", text or name.replace(":", "."))

    def revision(self, text: str) -> Link:
        """Return the link to the tree of a commit, which may have `+changes` added."""
        commit = commit_of(text)
        return Link(text, f"{self.repository}/tree/{commit}" if self.repository and commit else "")

    def run(self, path: str) -> list[Link]:
        """Return the ways from the page to a run: its files, its logs, and its record in MLflow."""
        of_loss, _, seed = path.rpartition("/")
        root, recorded = "", self.recorded
        if other := self.elsewhere.get(of_loss):
            root, path, recorded = f"{other['root']}/", f"{other['path']}/{seed}", recorded_at(other["tracking"])
        found = []
        if self.folder is not None:
            run = self.folder.run(path)
            files = {"record": run.run, "metrics": run.metrics, "history": run.history}
            files |= {"log": self.folder.log("train", path)}
            found = [link for text, file in files.items() for link in self._there(file, text, root)]
        return [*found, *([Link("MLflow", address)] if (address := recorded(path)) else [])]


def commit_of(revision: Any) -> str:
    """Return the commit of a git revision.

    >>> commit_of("0123456789abcdef0123456789abcdef01234567+changes"), commit_of("a name"), commit_of(None)
    ('0123456789abcdef0123456789abcdef01234567', '', '')
    """
    found = re.match(r"[0-9a-f]{7,64}(?=\+|$)", revision) if isinstance(revision, str) else None
    return found[0] if found else ""


def tracking_ui(tracking: Mapping[str, str]) -> str:
    """Return the address of an experiment's runs in the MLflow UI; of a database in the UI that `make ui` starts."""
    uri = tracking["uri"].rstrip("/")
    base = uri if uri.startswith(("http://", "https://")) else "http://127.0.0.1:5000"
    return f"{base}/#/experiments/{quote(str(tracking['experiment_id']))}/runs?workflowType=machine_learning"


def recorded_at(tracking: Mapping[str, str] | None) -> Callable[[str], str]:
    """Return path of a run, or `study` -> its address in the MLflow UI; empty texts without a recording."""
    ui = tracking_ui(tracking) if tracking else ""
    return (lambda key: f"{ui}&searchFilter={quote(search_for(key))}") if ui else (lambda key: "")


def search_for(key: str) -> str:
    """Return the search that finds a recorded run by its path, or the study's record by `study`."""
    return f"tags.`nclens.key` = '{key}'"


def paper(claim: Claim) -> Link | None:
    """Return the link to a claim's paper, with the place of the claim in it; None for one that names no paper."""
    found = re.search(r"arXiv (\d{4}\.\d{4,5})", claim.paper)
    if not found:
        return None
    return Link(", ".join(filter(None, (f"arXiv {found[1]}", claim.place))), f"https://arxiv.org/abs/{found[1]}")


def papers(text: str) -> Sequence[Link]:
    """Return a text with every arXiv number in it as a link.

    >>> [link.text for link in papers("A title (arXiv 2402.03979)")]
    ['A title (', 'arXiv 2402.03979', ')']
    """
    parts = re.split(r"(arXiv (?:\d{4}\.\d{4,5}))", text)
    return [
        Link(part, f"https://arxiv.org/abs/{part.split()[1]}" if place % 2 else "")
        for place, part in enumerate(parts)
        if part
    ]


def code_of(claim: Claim) -> str:
    """Return the function that measures a claim, as `module:name`."""
    measures = claim.measures
    function = getattr(measures, "func", measures)
    return f"{function.__module__}:{function.__name__}"
