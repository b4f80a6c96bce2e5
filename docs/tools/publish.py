"""Put the page of the default study, results/digits/report.html, into the site, with the files beside it that it links.

Also the page of the atlas, from docs/results/atlas.csv. `python docs/tools/publish.py`, which `make docs` runs when the
site is built. Where the study has not been run, the site's links lead to a page that says how to run it.
"""

import re
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote

from atlas_text import rows_of, site_page

from nclens import __version__
from nclens.workflow.provenance import code_digest

ROOT = Path(__file__).resolve().parents[2]
STUDY = Path("results") / "digits"
LARGEST = 2**20  # bytes of a linked file; networks and features are larger

ABSENT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>nclens: digits</title>
<body style="font-family: system-ui, sans-serif; max-width: 40em; margin: 3em auto; padding: 0 1em">
<h1>The default study</h1>
<p>This site was built where the default study had not been run. <code>make reproduce</code> runs it, in minutes on two
cores; <code>make docs</code> then publishes its page here. <a href="index.html">What it found.</a></p>
"""


def publish(source: Path, target: Path) -> list[str]:
    """Copy a study's page and what it links to; return the names of what was copied."""
    target.mkdir(parents=True, exist_ok=True)
    page = source / "report.html"
    if not page.is_file():
        (target / page.name).write_text(ABSENT, encoding="utf-8")
        return []
    links = {unquote(link) for link in re.findall(r'(?:href|src)="([^"#?:]+)["#?]', page.read_text(encoding="utf-8"))}
    inside = [name for name in sorted(links) if (source / name).resolve().is_relative_to(source.resolve())]
    small = [name for name in inside if (source / name).is_file() and (source / name).stat().st_size <= LARGEST]
    copied = list(dict.fromkeys([page.name, *small]))
    for name in copied:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
    return copied


def publish_atlas(table: Path, target: Path) -> int:
    """Write the page of the committed atlas, where there is one; return its number of verdicts."""
    rows = rows_of(table)
    if rows:
        target.write_text(site_page(rows, (__version__, code_digest("judge"))), encoding="utf-8")
    return sum(bool(row["claim"]) for row in rows)


if __name__ == "__main__":
    done = publish(ROOT / STUDY, ROOT / "site" / STUDY)
    said = f"{len(done)} files of the default study" if done else f"{STUDY} has no page: `make reproduce` writes it"
    print(f"site/{STUDY}: {said}", file=sys.stderr)
    verdicts = publish_atlas(ROOT / "docs" / "results" / "atlas.csv", ROOT / "site" / "results" / "atlas.html")
    print(f"site/results/atlas.html: {verdicts} verdicts", file=sys.stderr)
