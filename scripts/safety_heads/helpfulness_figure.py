"""Fig. 6b: accuracies, over-refusal and perplexity of the unchanged, ablated and pruned model."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from safety_heads.figure_style import ABLATION_COLOURS, GREY, ablation_name, grid, in_order, select, styled
from safety_heads.statistics import SIGNIFICANT

TASKS = {  # title, and what guessing gives
    "all": ("all tasks", None),
    "boolq": ("BoolQ", 0.5),
    "rte": ("RTE", 0.5),
    "winogrande": ("WinoGrande", 0.5),
    "arc_challenge": ("ARC-Challenge", 0.25),
    "openbookqa": ("OpenBookQA", 0.25),
}
METRICS = {"acc": "accuracy", "refused": "share refused", "perplexity": "perplexity"}
PRUNED = {"wanda": "Wanda", "sparsegpt": "SparseGPT"}
COLUMNS = 4


@styled
def helpfulness(table: pd.DataFrame, model: str | None = None) -> Figure:
    """One panel per task and per measure of the benign queries; in each, one dot per treatment with its interval.

    The dashed line is the unchanged model, the dotted one guessing. Filled dots differ from the unchanged model
    (p < 0.05, paired).
    """
    frame = select(table, model=model)
    frame = frame[frame["metric"].isin(METRICS)]
    treatments = in_order(frame["treatment"], ("none",))
    panels = _panels(frame)
    columns = min(COLUMNS, len(panels))
    height = 0.21 * len(treatments) + 0.35
    figure, axes = grid(-(-len(panels) // columns), columns, 1.95, height, sharey=True)
    places = [axis for row in axes for axis in row]
    for axis, (title, metric, rows) in zip(places, panels, strict=False):
        rows = rows.set_index("treatment").reindex(treatments)
        _dots(axis, rows)
        chance = TASKS.get(rows["task"].iloc[0], ("", None))[1]
        if chance is not None:
            axis.axvline(chance, color="0.6", lw=0.8, ls=":", zorder=0)
        axis.set_title(title)
        _scale(axis, metric, rows)
    for axis in places[len(panels) :]:
        axis.set_visible(False)
    axes[0][0].set_yticks(range(len(treatments)), [treatment_name(name) for name in treatments])
    for row in axes:
        row[0].tick_params("y", labelsize=7)
    axes[0][0].invert_yaxis()
    figure.suptitle(f"{frame['model'].iloc[0]}: helpfulness (filled: differs from the unchanged model)", fontsize=10)
    return figure


def _panels(frame: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Title, metric and rows of each panel: the tasks of lm-eval, all of them together first, then benign queries."""
    panels = []
    for metric in METRICS:
        of_metric = frame[frame["metric"] == metric]
        for task in in_order(of_metric["task"], tuple(TASKS)):
            title = TASKS[task][0] if task in TASKS else f"benign: {task}"
            panels.append((title, metric, of_metric[of_metric["task"] == task]))
    return panels


def _dots(axis: Axes, rows: pd.DataFrame) -> None:
    if not np.isnan(unchanged := rows["value"].iloc[0]):
        axis.axvline(unchanged, color=GREY, lw=0.8, ls="--", zorder=0)
    for place, (name, row) in enumerate(rows.iterrows()):
        colour = GREY if row["method"] == "none" else ABLATION_COLOURS.get(row["method"], "0.15")
        margins = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
        filled = row["p_value"] < SIGNIFICANT
        look = {"color": colour, "mfc": colour if filled else "white", "ms": 4.5, "lw": 1, "capsize": 2}
        marker = "s" if row["method"] in PRUNED else "D" if str(name).startswith("random-") else "o"
        axis.errorbar(row["value"], place, xerr=np.abs(margins), marker=marker, clip_on=False, **look)


def _scale(axis: Axes, metric: str, rows: pd.DataFrame) -> None:
    axis.set_xlabel(METRICS[metric], fontsize=8)
    if metric != "perplexity":
        axis.set(xlim=(-0.05, 1.05), xticks=[0, 0.5, 1])
        return
    top = float(np.nanmax(rows["high"].fillna(rows["value"])))
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if tick <= top] or [1]
    axis.set_xscale("log")
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.set_xticks([], minor=True)
    axis.set_xlim(0.95, top * 1.15)


def treatment_name(name: str) -> str:
    """`ships-ua-1` -> `UA`, `mean+ships-ua-1` -> `mean, UA's head`, `wanda-0.5` -> `Wanda, 50 % pruned`."""
    label, _, origin = name.rpartition("+")
    level, *others = origin.split("-")
    if level == "none":
        return "unchanged"
    if level in PRUNED:
        return f"{PRUNED[level]}, {100 * float(others[0]):g} % pruned"
    kind = ablation_name(others[0])
    kind = f"{label}, {kind}'s head" if label else kind
    others_told = {"ships": "", "random": ", random head"}.get(level, f", {level} {'-'.join(others[1:])}")
    return f"{kind}{others_told}"
