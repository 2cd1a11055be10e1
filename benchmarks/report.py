"""The report: one HTML file with the figures of search, its plots inside, and the method chosen and why.

Run as ``python -m benchmarks.report``; it reads kept results alone and draws in seconds.
"""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import results
from benchmarks.tables import METHODS

OUT = results.ROOT / "benchmarks" / "results" / "report.html"
CHOSEN, SINGLE = "fused", ("jaccard", "raw", "stems", "n-grams", "lexical", "dense")
NAMES = {method: shown.strip("*") for method, shown in METHODS.items()}
WITHHELD = ("gold withheld", "page withheld", "no answer")
INK, SOFT, ACCENT, WARM = "#1c2024", "#b9c2c0", "#0f766e", "#b4562d"
STYLE = """
:root { color-scheme: light; color: #1c2024; font: 16px/1.6 "Segoe UI", Roboto, "Noto Sans", sans-serif; }
body { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; background: #fff; }
h1 { font-size: 1.7rem; line-height: 1.25; } h2 { margin-top: 2.6rem; font-size: 1.25rem; }
figure { margin: 1rem 0; overflow-x: auto; } svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: .9rem; width: 100%; display: block; overflow-x: auto; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #e3e0da; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } tr.chosen { background: #e3f0ee; font-weight: 600; }
.lead { font-size: 1.08rem; } small, figcaption { color: #5f666d; }
"""


def main() -> Path:
    """Write the report of the results that are kept.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    SystemExit
        There is no result of the retrieval suite.
    """
    kept = results.load("retrieval")
    if kept is None:
        raise SystemExit("There is no result to report: run `postfinder bench retrieval` first.")
    parts = [heading(kept), *methods_part(kept["result"])]
    for suite, part in (
        ("calibration", reliability_part),
        ("ask", latency_part),
        ("russian", russian_part),
        ("wording", wording_part),
    ):
        if (found := results.load(suite)) is not None:
            parts += part(found["result"])
    body = "\n".join(parts)
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>PostFinder: how well it searches</title><style>{STYLE}</style><body>{body}</body></html>"
    )
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(page, encoding="utf-8")
    return OUT


def heading(kept: dict[str, Any]) -> str:
    """Say what this is, and what it was measured on."""
    machine = kept["machine"]
    return (
        "<h1>How well PostFinder searches</h1>"
        f"<p><small>{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB; commit {kept['commit']}, "
        f"{kept['date']}. Every figure comes from <code>benchmarks/results</code>.</small></p>"
    )


def why(result: dict[str, Any]) -> str:
    """Name the chosen method and the reasons, in the result's own figures."""
    sets, names = result["sets"], list(result["sets"])
    single = [method for method in SINGLE if all(method in one["methods"] for one in sets.values())]
    best = {name: max(single, key=lambda m: sets[name]["methods"][m]["ndcg@10"]) for name in names}

    def gain(name: str, method: str) -> float:
        return float(sets[name]["methods"][method]["ndcg@10"])

    joined = ", ".join(
        f"{name} {gain(name, CHOSEN):.3f} against {gain(name, best[name]):.3f} of {NAMES[best[name]]} "
        f"(p = {sets[name]['p'][f'{CHOSEN}>{best[name]}']:.3g})"
        for name in names
    )
    has_ranks = all("ranks" in one["methods"] for one in sets.values())
    ranks = [gain(name, "ranks") - gain(name, "dense") for name in names if has_ranks]
    words = [
        f"The product's search joins the cosine of the default embedder with the query's words: nDCG@10 {joined}. ",
        f"On average that is {result['margin']:+.3f} over the best single method of each set, and at least "
        f"{result['worst']:+.3f} on every one. ",
        (
            f"Reciprocal ranks throw away by how much a post leads: they move {', '.join(f'{n:+.3f}' for n in ranks)} "
            "against cosines alone. "
        )
        * has_ranks
        + "A question is matched by meaning, so its words only break near ties, by the share "
        "of their rarity that a post has; a title or key words count for more. ",
    ]
    for name in names:
        one = sets[name]
        if one["p"][f"{CHOSEN}>dense"] >= 0.05 and "detectable" in one:
            words.append(
                f"On {name} the gain over cosines is {one['gain_over_dense']:+.3f}, and {one['queries']} questions "
                f"could show a gain of {one['detectable']:.3f} at p &lt; .05 four times in five: this set is too "
                "small to settle it. "
            )
    if result.get("not_run"):
        reasons = "; ".join(f"{NAMES[name]}: {html.escape(told)}" for name, told in result["not_run"].items())
        words.append(f"Not run here: {reasons}")
    return f'<p class="lead">{"".join(words)}</p>'


def methods_part(result: dict[str, Any]) -> list[str]:
    """Show every method on every set."""
    sets = result["sets"]
    order = [name for name in NAMES if any(name in one["methods"] for one in sets.values())]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in sets)
    rows = []
    for name in order:
        cells = []
        for one in sets.values():
            found = one["methods"].get(name)
            span = one["intervals"].get(name, {}).get("ndcg@10")
            said = f"{found['ndcg@10']:.3f}" if found else "–"
            cells.append(f"<td>{said}{f' <small>{span[0]:.2f}–{span[1]:.2f}</small>' if span else ''}</td>")
        some = next(one["methods"][name] for one in sets.values() if name in one["methods"])
        shown = (f"{some[cost]:.{places}f}" if cost in some else "–" for cost, places in (("ms", 2), ("memory_mb", 1)))
        costs = "".join(f"<td>{one}</td>" for one in shown)
        rows.append(
            f"<tr{' class=chosen' if name == CHOSEN else ''}><td>{NAMES[name]}</td>{''.join(cells)}{costs}</tr>"
        )
    table = (
        f"<table><thead><tr><th>nDCG@10 (95 % interval)</th>{head}<th>ms a query</th><th>MB</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    return [
        "<h2>Methods side by side</h2>",
        why(result),
        figure(lambda axes: bars(axes, sets, order), (len(sets), 1), (10.5, 0.32 * len(order) + 1.1)),
        table,
        "<p><small>Milliseconds and megabytes of the first set, the query's embedding not counted.</small></p>",
    ]


def bars(axes: Sequence[Axes], sets: dict[str, Any], order: Sequence[str]) -> None:
    """Draw nDCG@10 of each method with its interval, a set beside another."""
    for place, (axis, (name, one)) in enumerate(zip(axes, sets.items(), strict=True)):
        shown = [method for method in reversed(order) if method in one["methods"]]
        for row, method in enumerate(shown):
            value = one["methods"][method]["ndcg@10"]
            axis.barh(row, value, color=ACCENT if method == CHOSEN else SOFT, height=0.68)
            if span := one["intervals"].get(method, {}).get("ndcg@10"):
                axis.plot(span, [row, row], color=INK, linewidth=1)
            axis.text(0.012, row, f"{value:.3f}", va="center", fontsize=8, color="white" if method == CHOSEN else INK)
        axis.set_yticks(range(len(shown)), [NAMES[m] for m in shown] if not place else [])
        axis.set_title(f"{name}, {one['queries']} queries", fontsize=10)
        axis.set_xlim(0, 1)


def reliability_part(result: dict[str, Any]) -> list[str]:
    """Show whether the probability of relevance means what it says."""
    found = result["reliability"]

    def draw(axes: Sequence[Axes]) -> None:
        (left, right) = axes
        left.plot([0, 1], [0, 1], color=SOFT, linewidth=1)
        means, shares, counts = zip(*found["bins"], strict=True)
        left.plot(means, shares, color=ACCENT, marker="o", markersize=5)
        left.set_xlabel("probability said")
        left.set_ylabel("share that the posts answer")
        left.set_title(f"ECE {found['ece']:.3f}, Brier {found['brier']:.3f}", fontsize=10)
        right.bar(means, counts, width=0.06, color=SOFT)
        right.set_xlabel("probability said")
        right.set_title("questions", fontsize=10)

    rows = "".join(
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(
            f"<td>{kinds.get(kind, float('nan')):.3f}</td>" for kind in ("gold withheld", "page withheld", "no answer")
        )
        + "</tr>"
        for name, kinds in result["auroc"].items()
    ).replace("nan", "–")
    return [
        "<h2>Knowing when it does not know</h2>",
        "<p>Questions with their answers kept, withheld, or never there; the probability of each set is fitted on the "
        "others.</p>",
        figure(draw, (2, 1), (9, 3.4)),
        "<table><thead><tr><th>AUROC of kept against</th><th>only the answer withheld</th><th>the page withheld</th>"
        f"<th>never there</th></tr></thead><tbody>{rows}</tbody></table>",
    ]


def latency_part(result: dict[str, Any]) -> list[str]:
    """Show what a member waits for."""

    def draw(axes: Sequence[Axes]) -> None:
        (axis,) = axes
        waits = list(reversed(result["waits"]))
        for row, wait in enumerate(waits):
            axis.barh(row, wait["p95_ms"], color=SOFT, height=0.6)
            axis.barh(row, wait["p50_ms"], color=ACCENT, height=0.6)
        axis.set_yticks(range(len(waits)), [wait["what"].strip("()") for wait in waits])
        axis.set_xlabel("milliseconds: median, and 95th percentile in grey")

    return [
        f"<h2>How long a member waits</h2><p>{result['posts']:,} posts, one question at a time.</p>",
        figure(draw, (1, 1), (9, 2.2)),
    ]


def russian_part(result: dict[str, Any]) -> list[str]:
    """Show Russian as people type it, before and after respelling."""
    rows = []
    for title, found in (("the list the rules were made on", result), ("held out", result.get("held_out", {}))):
        if "before" not in found:
            continue
        kinds = [key.removesuffix("_of") for key in found if key.endswith("_of")]
        cells = "".join(
            f"<tr><td>{kind}</td><td>{found[f'{kind}_before']}</td><td>{found[f'{kind}_hits']}</td>"
            f"<td>{found[f'{kind}_clean']}</td><td>{found[f'{kind}_of']}</td></tr>"
            for kind in kinds
        )
        rows.append(
            f"<p>{title.capitalize()}: {found['before']} found before, {found['hits']} after, {found['clean']} written "
            f"carefully, of {found['of']}.</p><table><thead><tr><th>kind</th><th>before</th><th>after</th>"
            f"<th>carefully</th><th>of</th></tr></thead><tbody>{cells}</tbody></table>"
        )
    return ["<h2>Russian as people type it</h2>", *rows] if rows else []


def wording_part(result: dict[str, Any]) -> list[str]:
    """Show how well limits are read from words."""
    rows = "".join(
        f"<tr><td>{name}</td><td>{found['questions']}</td><td>{found['limits']}</td><td>{found['precision']:.3f}</td>"
        f"<td>{found['recall']:.3f}</td></tr>"
        for name, found in result.items()
    )
    return [
        "<h2>Limits in words</h2>",
        "<table><thead><tr><th>list</th><th>questions</th><th>limits</th><th>precision</th><th>recall</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>",
    ]


def figure(draw: Callable[[Sequence[Axes]], None], grid: tuple[int, int], size: tuple[float, float]) -> str:
    """Return a plot as SVG.

    Parameters
    ----------
    draw : callable
        Given the axes, draws on them.
    grid : (int, int)
        Columns and rows.
    size : (float, float)
        Inches.

    Returns
    -------
    str
    """
    with plt.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none"}):
        made: Figure
        made, axes = plt.subplots(grid[1], grid[0], figsize=size, squeeze=False)
        draw([axis for row in axes for axis in row])
        made.tight_layout()
        out = io.StringIO()
        made.savefig(out, format="svg", metadata={"Date": None})
        plt.close(made)
    text = out.getvalue()
    return f"<figure>{text[text.index('<svg') :]}</figure>"


if __name__ == "__main__":
    print(main())
