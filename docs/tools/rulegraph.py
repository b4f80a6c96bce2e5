"""Draw docs/workflow.svg, the workflow's rules and what each waits for, from the rule graph that Snakemake reports.

`python docs/tools/rulegraph.py`, which `make docs` runs. The study is one with probes, so that every rule is there.
Without what another path already says, the longest chain is the middle column. The colours are readable on a light and
on a dark page: boxes have their own ground, lines are grey.
"""

import re
import subprocess
import sys
from pathlib import Path

import networkx as nx

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "docs" / "workflow.svg"
STUDY = "studies/losses.yaml"
WIDTH, HEIGHT = 118, 30  # of a box, pixels
COLUMN, ROW = 156, 56
MARGIN = 8
EACH, ONCE = "#0b6a9c", "#5b6470"


def rule_graph() -> nx.DiGraph:
    """Return the rules as Snakemake plans them, an edge from a rule to one that reads its files."""
    command = [sys.executable, "-m", "snakemake", "--rulegraph", "--configfile", STUDY]
    dot = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', dot))
    edges = [(names[before], names[after]) for before, after in re.findall(r"(\d+) -> (\d+)", dot) if before != after]
    return nx.transitive_reduction(nx.DiGraph((before, after) for before, after in edges if after != "all"))


def places(graph: nx.DiGraph) -> dict[str, tuple[int, int]]:
    """Return each rule's column and row: the longest chain in the middle, the rest left and right of it."""
    rows = {name: row for row, names in enumerate(nx.topological_generations(graph)) for name in names}
    chain = nx.dag_longest_path(graph)
    for name in graph:
        if not graph.in_degree(name) and name not in chain:  # just above the first rule that needs it
            rows[name] = min(rows[after] for after in graph.successors(name)) - 1
    beside = graph.to_undirected().subgraph(set(graph) - set(chain))
    parts = sorted(nx.connected_components(beside), key=lambda part: (-len(part), sorted(part)))
    columns = dict.fromkeys(chain, 1) | {name: 0 for part in parts[1:] for name in part}
    columns |= dict.fromkeys(parts[0], 2)
    return {name: (columns[name], rows[name]) for name in sorted(graph)}


def of_each_run() -> set[str]:
    """Return the rules that have a job for each network."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "rules").glob("*.smk")))
    return {block.split(":")[0] for block in re.split(r"^rule ", text, flags=re.M)[1:] if "{run}" in block}


def box(x: float, y: float, text: str, colour: str) -> str:
    """Return a rectangle around (x, y) with a text in it."""
    shape = f'<rect x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" rx="6"'
    return f'{shape} fill="{colour}"/><text x="{x:g}" y="{y + 5:g}">{text}</text>'


def line(before: tuple[int, int], after: tuple[int, int], taken: set[tuple[int, int]]) -> str:
    """Return a line from a box to one below it: a curve, or beside the boxes between them."""
    (x, y), (to_x, to_y) = centre(before), centre(after)
    side = 1 if after[0] > before[0] or before[0] == after[0] > 0 else -1
    if before[0] == after[0] and {(before[0], row) for row in range(before[1] + 1, after[1])} & taken:
        x, to_x, out = x + side * WIDTH / 2, to_x + side * (WIDTH / 2 + 5), side * 18
        return f'<path d="M{x:g} {y:g}q{out} 0 {out} 12V{to_y - 12:g}q0 12 {5 * side - out} 12"/>'
    if before[0] != after[0] and after[1] - before[1] > 1:
        x, to_x = x + side * WIDTH / 2, to_x - side * (WIDTH / 2 + 5)
        out = side * (12 + 7 * (before[1] % 3))  # lines that start in neighbouring rows stay apart
        return f'<path d="M{x:g} {y:g}q{out} 0 {out} 12V{to_y - 12:g}q0 12 {to_x - x - out:g} 12"/>'
    y, to_y = y + HEIGHT / 2, to_y - HEIGHT / 2 - 5
    bend = (to_y - y) * 0.6
    return f'<path d="M{x:g} {y:g}C{x:g} {y + bend:g} {to_x:g} {to_y - bend:g} {to_x:g} {to_y:g}"/>'


def centre(place: tuple[float, float]) -> tuple[float, float]:
    """Return the middle of a box in pixels."""
    return MARGIN + WIDTH / 2 + place[0] * COLUMN, MARGIN + HEIGHT / 2 + place[1] * ROW


def picture(graph: nx.DiGraph) -> str:
    """Return the picture as SVG."""
    at = places(graph)
    each = of_each_run()
    width = 2 * MARGIN + 2 * COLUMN + WIDTH + 26
    height = 2 * MARGIN + (max(row for _, row in at.values()) + 1) * ROW
    said = "; ".join(f"{name} before {', '.join(sorted(graph[name]))}" for name in sorted(graph) if graph[name])
    lines = [line(at[before], at[after], set(at.values())) for before, after in sorted(graph.edges)]
    boxes = [box(*centre(at[name]), name, EACH if name in each else ONCE) for name in sorted(graph)]
    legend = [
        box(*centre((2, row)), text, colour) for row, text, colour in ((7.1, "each network", EACH), (7.8, "once", ONCE))
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img">',
            f"<title>The rules of the workflow</title><desc>{said}</desc>",
            '<defs><marker id="a" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
            '<path d="M0 0 8 4 0 8z" fill="#8a929b" stroke="none"/></marker></defs>',
            '<g fill="none" stroke="#8a929b" stroke-width="1.6">',
            *(part.replace("/>", ' marker-end="url(#a)"/>') for part in lines),
            "</g>",
            '<g fill="#fff" font-family="system-ui, sans-serif" font-size="14" text-anchor="middle">',
            *boxes,
            "</g>",
            '<g fill="#fff" font-family="system-ui, sans-serif" font-size="12" text-anchor="middle">',
            *legend,
            "</g>",
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    TARGET.write_text(picture(rule_graph()), encoding="utf-8")
