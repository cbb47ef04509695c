"""Figures of attack success rates: one ablated head (fig. 2) and groups of heads (fig. 4a, 11, 12).

Every rate stands with its 95 % interval, beside the unchanged model and beside random heads; the axis is always 0 to 1.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from safety_heads.errors import UserError
from safety_heads.figure_style import (
    ABLATION_COLOURS,
    GREY,
    ablation_name,
    ablation_order,
    dataset_title,
    grid,
    in_order,
    select,
    styled,
)

LEVEL_NAMES = {
    "none": "none",
    "query": "query's\ntop head",
    "ships": "Ships'\ntop head",
    "dataset": "Sahara's\nfirst head",
    "random": "random\nhead",
}
LEGEND_INCHES = 1.5  # that a legend's column takes
_ERROR = {"color": "0.2", "lw": 1, "capsize": 2.5, "ls": "none"}


@styled
def asr_bars(
    asr: pd.DataFrame, model: str | None = None, judge: str | None = None, benign: tuple[str, ...] = ()
) -> Figure:
    """Fig. 2: ASR without ablation, with one head ablated, chosen in several ways, and with one random head.

    A random bar is the mean of the draws, each of which is a dot.
    """
    frame = select(asr, model=model, judge=judge)
    frame = frame[frame["size"].fillna(0) <= 1]
    levels, ablations = in_order(frame["level"], tuple(LEVEL_NAMES)), ablation_order(frame["ablation"])
    figure, panels = _facets(frame, benign, width=0.62 * len(levels) + 0.5, height=1.75)
    for axis, rows in panels:
        for place, level in enumerate(levels):
            _bars(axis, rows[rows["level"] == level], place, ablations)
        axis.set(xticks=range(len(levels)), xlim=(-0.6, len(levels) - 0.4))
        axis.set_xticklabels([LEVEL_NAMES.get(level, level) for level in levels], fontsize=7)
    _finish(figure, panels, frame)
    return figure


def _bars(axis: Axes, rows: pd.DataFrame, place: int, ablations: list[str]) -> None:
    """The bars at one place: one for `none`, else one per ablation."""
    if rows["ablation"].isna().all():
        _rates(axis, rows, place, 0.4, GREY, "no ablation")
        return
    width = 0.8 / len(ablations)
    for number, ablation in enumerate(ablations):
        x = place + (number - (len(ablations) - 1) / 2) * width
        of_ablation = rows[rows["ablation"] == ablation]
        _rates(axis, of_ablation, x, width * 0.9, ABLATION_COLOURS.get(ablation), ablation_name(ablation))


def _rates(axis: Axes, rows: pd.DataFrame, x: float, width: float, colour: object, label: str) -> None:
    if rows.empty:
        return
    random = rows["level"].eq("random").all()
    label = f"{label}, random" if random else label
    axis.bar(x, rows["asr"].mean(), width, color=colour, label=label, alpha=0.45 if random else 1, lw=0)
    if random:
        spread = np.linspace(-0.25, 0.25, len(rows)) * width
        axis.scatter(x + spread, rows["asr"], s=9, color=colour, edgecolor="0.2", lw=0.5, zorder=3, clip_on=False)
    else:
        axis.errorbar(x, rows["asr"], yerr=margins(rows), clip_on=False, **_ERROR)


@styled
def group_size(
    asr: pd.DataFrame,
    model: str | None = None,
    judge: str | None = None,
    level: str = "dataset",
    benign: tuple[str, ...] = (),
) -> Figure:
    """Fig. 4a (level `dataset`: Sahara's groups) or 11 and 12 (level `query`): ASR against the number of heads.

    The dashed line is the mean over draws of as many random heads; each draw is a dot. Crosses are the share of broken
    answers with the chosen heads ablated, which count as not complied.
    """
    frame = select(asr, model=model, judge=judge)
    if level not in set(frame["level"]):
        raise UserError(f"level {level!r} is not in the table; it has {', '.join(in_order(frame['level']))}")
    frame = frame[frame["level"].isin(["none", level, "random"])]
    figure, panels = _facets(frame, benign, width=2.2, height=1.75)
    ablations = ablation_order(frame["ablation"])
    for axis, rows in panels:
        for number, ablation in enumerate(ablations):
            shift = 0.08 * (number - (len(ablations) - 1) / 2)
            _lines(axis, rows[rows["ablation"].isna() | (rows["ablation"] == ablation)], ablation, level, shift)
        sizes = range(int(frame["size"].max()) + 1)
        axis.set(xticks=sizes, xlim=(-0.35, sizes[-1] + 0.35))
    _finish(figure, panels, frame)
    for axis, _ in panels[-frame["dataset"].nunique() :]:
        axis.set_xlabel("ablated heads")
    share = f"one head is {_share_of_one(frame):.2g} % of the parameters"
    figure.suptitle(f"{figure.get_suptitle()}\n{share}", fontsize=9)
    return figure


def _lines(axis: Axes, rows: pd.DataFrame, ablation: str, level: str, shift: float) -> None:
    colour, name = ABLATION_COLOURS.get(ablation, GREY), ablation_name(ablation)
    chosen = rows[rows["level"].isin(["none", level])].sort_values("size")
    x = chosen["size"].astype(float) + shift
    look = {"color": colour, "marker": "o", "ms": 4, "lw": 1.4, "capsize": 2.5, "clip_on": False}
    axis.errorbar(x, chosen["asr"], yerr=margins(chosen), label=name, **look)
    broken = chosen["n_degenerate"] / chosen["n"].where(chosen["n"] > 0)
    axis.plot(x, broken, color=colour, marker="x", ms=4, lw=0.8, ls=":", label=f"{name}, broken text", clip_on=False)
    random = rows[rows["level"] == "random"]
    means = rows[rows["level"].isin(["none", "random"])].groupby("size")["asr"].mean()
    x = random["size"].astype(float) + shift
    dashed = {"color": colour, "ls": "--", "lw": 1, "alpha": 0.7, "clip_on": False}
    axis.plot(means.index.astype(float) + shift, means, label=f"{name}, random", **dashed)
    axis.scatter(x, random["asr"], s=8, color=colour, alpha=0.6, lw=0, clip_on=False)


@styled
def experiments(
    asr: pd.DataFrame, model: str | None = None, judge: str | None = None, benign: tuple[str, ...] = ()
) -> Figure:
    """Figs. 6a, 15, 17 and table 7: rates of the experiments, `<experiment>+<intervention>`, below the run's own.

    A row of panels per decoding, a column per data set; one bar per experiment and ablation.
    """
    frame = select(asr, model=model, judge=judge)
    frame = frame.assign(experiment=frame["intervention"].str.extract(r"^(.+)\+", expand=False))
    frame = frame[frame["experiment"].notna() | frame["level"].isin(["none", "ships"])]
    frame = frame.assign(bar=frame.apply(_bar_name, axis=1))
    bars, datasets, ways = in_order(frame["bar"]), in_order(frame["dataset"]), in_order(frame["decoding"])
    figure, axes = grid(len(ways), len(datasets), 2.6, 0.2 * len(bars) + 0.4, sharex=True, sharey=True)
    for row, way in enumerate(ways):
        for axis, dataset in zip(axes[row], datasets, strict=True):
            here = frame[(frame["dataset"] == dataset) & (frame["decoding"] == way)].set_index("bar").reindex(bars)
            colours = [ABLATION_COLOURS.get(ablation, GREY) for ablation in here["ablation"]]
            axis.barh(bars, here["asr"], 0.7, color=colours, lw=0)
            axis.errorbar(here["asr"], bars, xerr=margins(here), clip_on=False, **_ERROR)
            axis.set(title=dataset_title(dataset, benign) if row == 0 else "", xlim=(0, 1), xticks=[0, 0.5, 1])
        axes[row][0].set_ylabel(way)
    axes[0][0].invert_yaxis()
    figure.supxlabel("share of queries complied with (ASR)", fontsize=9)
    first = frame.iloc[0]
    figure.suptitle(f"{first['model']}, judge {first['judge']}", fontsize=10)
    return figure


def _bar_name(row: pd.Series) -> str:
    """`sure`, `chat, UA`, `sign, carrier, UA`: the experiment or the run's format, and what is ablated."""
    parts = [row["format"] if pd.isna(row["experiment"]) else row["experiment"]]
    if row["level"] in ("carrier", "suppressor", "query", "random"):
        parts.append(row["level"])
    if not pd.isna(row["ablation"]):
        parts.append(ablation_name(row["ablation"]))
    if not pd.isna(row["draw"]):
        parts.append(f"draw {row['draw']:.0f}")
    return ", ".join(parts)


def _share_of_one(frame: pd.DataFrame) -> float:
    """Percent of the parameters that one ablated head is."""
    one = frame[frame["size"] > 0].iloc[0]
    return 100 * one["parameters_share"] / one["size"]


def margins(rows: pd.DataFrame) -> np.ndarray:
    """Distances from the rate to its interval, as `errorbar` wants them."""
    return np.abs(np.stack([rows["asr"] - rows["low"], rows["high"] - rows["asr"]]).astype(float))


def _facets(
    frame: pd.DataFrame, benign: tuple[str, ...], width: float, height: float
) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """Rows: format and decoding; columns: data sets, benign ones last. Each panel with its rows of the table."""
    datasets = sorted(in_order(frame["dataset"]), key=lambda name: name in benign)
    settings = [(form, way) for form in in_order(frame["format"]) for way in in_order(frame["decoding"])]
    figure, axes = grid(len(settings), len(datasets), width, height, sharex=True, sharey=True)
    panels = []
    for row, (form, way) in enumerate(settings):
        for column, dataset in enumerate(datasets):
            here = (frame["dataset"] == dataset) & (frame["format"] == form) & (frame["decoding"] == way)
            axes[row][column].set_title(dataset_title(dataset, benign) if row == 0 else "", pad=8)
            panels.append((axes[row][column], frame[here]))
        axes[row][0].set_ylabel(f"{form}, {way}", fontsize=8)
    return figure, panels


def _finish(figure: Figure, panels: list[tuple[Axes, pd.DataFrame]], frame: pd.DataFrame) -> None:
    labels: dict[str, object] = {}
    for axis, _ in panels:
        axis.set(ylim=(0, 1), yticks=[0, 0.5, 1])
        labels |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.supylabel("share of queries complied with (ASR)", fontsize=9)
    first = frame.iloc[0]
    figure.suptitle(f"{first['model']}, judge {first['judge']}", fontsize=10)
    columns = min(len(labels), int(figure.get_figwidth() / LEGEND_INCHES))
    figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=columns, fontsize=8)
