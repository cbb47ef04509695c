"""Figures of judges: how often each errs on human-labelled answers, and what each says of the same answers of a run."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from safety_heads.asr_figures import LEVEL_NAMES, margins
from safety_heads.figure_style import GREY, dataset_title, grid, in_order, select, styled

BINS = np.linspace(0, 1, 6)


@styled
def judge_cards(cards: pd.DataFrame, graded: pd.DataFrame) -> Figure:
    """Accuracy of every judge on every labelled set with its interval, refusals found and missed; and calibration.

    A column per labelled set, and one for the judges that give a probability: what share of people say complied.
    """
    sets, judges = in_order(cards["labelled_set"]), in_order(cards["judge"])
    sets = [name for name in sets if (cards["labelled_set"] == name).sum() > 1 or len(sets) == 1]
    figure, axes = grid(1, len(sets) + 1, 2.6, 0.24 * len(judges) + 0.9)
    for axis, name in zip(axes[0], sets, strict=False):
        own = cards[cards["labelled_set"] == name].set_index("judge").reindex(judges)
        place = np.arange(len(judges))
        errors = np.abs(np.stack([own["accuracy"] - own["accuracy_low"], own["accuracy_high"] - own["accuracy"]]))
        axis.errorbar(own["accuracy"], place, xerr=errors, fmt="o", ms=5, color="0.1", capsize=2, label="accuracy")
        axis.plot(own["refusal_recall"], place, "<", ms=4, color="C0", label="refusals found", clip_on=False)
        axis.plot(1 - own["false_refusals"], place, ">", ms=4, color="C1", label="compliance found", clip_on=False)
        axis.set(xlim=(0, 1), title=f"{name}\nn = {own['n'].max():.0f}", ylim=(len(judges) - 0.5, -0.5))
        axis.set(yticks=place, yticklabels=judges if axis is axes[0][0] else [""] * len(judges))
        axis.grid(axis="x", lw=0.4)
    _calibration(axes[0][-1], graded)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    figure.suptitle("judges against people", fontsize=10)
    return figure


def _calibration(axis: Axes, graded: pd.DataFrame) -> None:
    """Share of people who say complied against the judge's probability, for judges that give one."""
    axis.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls="--")
    first = graded["labelled_set"].iloc[0]
    for judge, rows in graded[graded["labelled_set"] == first].groupby("judge", sort=False):
        rows = rows[rows["verdict"].isin(["complied", "refused"])]
        if set(rows["score"].unique()) <= {0.0, 1.0}:
            continue
        bins = pd.cut(rows["score"], BINS, include_lowest=True)
        means = rows.assign(complied=rows["complied"].astype(float)).groupby(bins, observed=True)
        axis.plot(means["score"].mean(), means["complied"].mean(), "o-", ms=4, lw=1, label=judge)
    axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="score", title=f"calibration\n{first}", aspect="equal")
    axis.set_ylabel("complied, say people")
    if axis.get_legend_handles_labels()[1]:
        axis.legend(fontsize=7, loc="upper left")


@styled
def asr_judges(
    asr: pd.DataFrame, model: str | None = None, ablation: str | None = None, benign: tuple[str, ...] = ()
) -> Figure:
    """ASR of the same answers under every judge: without ablation, with one head ablated, with one random head.

    Bars are raw rates with Wilson's interval; a diamond is the rate corrected for the judge's known error. A random bar
    is the mean of the draws. Rows: format and decoding; columns: data sets.
    """
    frame = select(asr, model=model)
    ablation = ablation or frame["ablation"].dropna().iloc[0]
    frame = frame[(frame["size"].fillna(0) <= 1) & (frame["ablation"].isna() | (frame["ablation"] == ablation))]
    levels = [level for level in ("none", "ships", "dataset", "random") if level in set(frame["level"])]
    judges, datasets = in_order(frame["judge"]), in_order(frame["dataset"])
    settings = list(dict.fromkeys(zip(frame["format"], frame["decoding"], strict=True)))
    colours = sns.color_palette("colorblind", len(judges))
    figure, axes = grid(
        len(settings), len(datasets), 0.3 * len(levels) * len(judges) + 0.6, 1.75, sharex=True, sharey=True
    )
    for row, (form, way) in zip(axes, settings, strict=True):
        row[0].set_ylabel(f"{form}, {way}", fontsize=8)
        for axis, dataset in zip(row, datasets, strict=True):
            here = frame[(frame["dataset"] == dataset) & (frame["format"] == form) & (frame["decoding"] == way)]
            axis.set_title(dataset_title(dataset, benign) if row is axes[0] else "", pad=8)
            axis.set(ylim=(0, 1), yticks=[0, 0.5, 1], xticks=range(len(levels)))
            axis.set_xticklabels([LEVEL_NAMES[level] for level in levels], fontsize=7)
            _judge_bars(axis, here, levels, dict(zip(judges, colours, strict=True)))
    handles, labels = axes[0][0].get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))  # of diamonds, one
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=min(len(shown), 4), fontsize=8)
    figure.supylabel("share of queries complied with (ASR)", fontsize=9)
    figure.suptitle(f"{frame['model'].iloc[0]}, {ablation.upper()}, every judge", fontsize=10)
    return figure


def _judge_bars(axis: Axes, rows: pd.DataFrame, levels: list[str], colours: dict[str, object]) -> None:
    width = 0.8 / len(colours)
    for number, (judge, colour) in enumerate(colours.items()):
        for place, level in enumerate(levels):
            own = rows[(rows["judge"] == judge) & (rows["level"] == level)]
            x = place + (number - (len(colours) - 1) / 2) * width
            label = judge if place == 0 else None
            axis.bar(x, own["asr"].mean(), width * 0.9, color=colour, lw=0, label=label)
            if level != "random" and len(own):
                axis.errorbar(
                    [x], own["asr"], yerr=margins(own), color="0.2", lw=1, capsize=2, ls="none", clip_on=False
                )
            if own["corrected"].notna().any():
                look = {"ms": 3.5, "mfc": "white", "mec": "0.1", "mew": 0.7, "clip_on": False, "ls": "none"}
                axis.plot([x], [own["corrected"].mean()], "D", label="corrected for the judge's errors", **look)
