"""Figures of heads: where Ships lies, how it is spread, whether it carries refusal, and who shares the top heads.

Each function takes tables as frames and returns a matplotlib figure; figures of success rates are in `asr_figures`.
"""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullFormatter, NullLocator
from scipy.stats import spearmanr

from safety_heads.errors import UserError
from safety_heads.figure_style import (
    ABLATION_COLOURS,
    GREY,
    MODEL_PALETTE,
    ablation_name,
    ablation_order,
    dataset_title,
    grid,
    in_order,
    select,
    styled,
)
from safety_heads.ranking import mean_ships
from safety_heads.statistics import overlaps

LABELLED = 3  # heads named in each panel of dots


@styled
def ships_heatmap(
    ships: pd.DataFrame, model: str | None = None, format: str | None = None, benign: tuple[str, ...] = ()
) -> Figure:
    """Mean Ships of every head: a row per ablation with one colour scale, a column per data set, benign ones last."""
    means = mean_ships(select(ships, model=model, format=format))
    datasets = sorted(in_order(means["dataset"]), key=lambda name: name in benign)
    ablations = ablation_order(means["ablation"])
    n_layers, n_heads = means["layer"].max() + 1, means["head"].max() + 1
    height = min(max(0.13 * n_layers, 2.0), 5.0)
    width = min(max(height * n_heads / n_layers, 1.7), 5.0)
    figure, axes = grid(len(ablations), len(datasets), width, height, sharex=True, sharey=True)
    for row, ablation in enumerate(ablations):
        of_row = means[means["ablation"] == ablation]
        for axis, dataset in zip(axes[row], datasets, strict=True):
            cells = of_row[of_row["dataset"] == dataset].pivot(index="layer", columns="head", values="kl_nats")
            _heat(axis, cells.reindex(range(n_layers)).reindex(columns=range(n_heads)), of_row["kl_nats"].max())
            axis.set_title(dataset_title(dataset, benign) if row == 0 else "", pad=16 if row == 0 else 4)
            axis.set(xlabel="head" if row == len(ablations) - 1 else "", ylabel="")
        axes[row][0].set_ylabel(f"{ablation_name(ablation)}\nlayer")
        figure.colorbar(axes[row][0].collections[0], ax=axes[row], label="mean Ships (nats)", pad=0.01, fraction=0.03)
    first = means.iloc[0]
    figure.suptitle(f"{first['model']}, {first['format']} format", fontsize=10)
    return figure


def _heat(axis: Axes, cells: pd.DataFrame, highest: float) -> None:
    """One panel, layer 0 at the bottom, its top head framed and named above."""
    n_layers, n_heads = cells.shape
    axis.pcolormesh(cells.to_numpy(), cmap="rocket_r", vmin=0, vmax=highest)
    for side, n in (("x", n_heads), ("y", n_layers)):
        step = max(1, 4 * round(n / 32)) if n <= 12 else 4 * max(1, round(n / 32))
        axis.set(**{f"{side}ticks": np.arange(0, n, step) + 0.5, f"{side}ticklabels": np.arange(0, n, step)})
    if cells.notna().any(axis=None):
        layer, head = np.unravel_index(np.nanargmax(cells.to_numpy()), cells.shape)
        frame = {"fill": False, "edgecolor": ABLATION_COLOURS["ua"], "lw": 1.5, "clip_on": False}
        axis.add_patch(Rectangle((head, layer), 1, 1, **frame))
        text = f"top {layer}-{head}: {cells.loc[layer, head]:.3g}"
        axis.text(0.5, 1.01, text, ha="center", va="bottom", transform=axis.transAxes, fontsize=7)


@styled
def asr_map(asr: pd.DataFrame, interventions: pd.DataFrame, ships: pd.DataFrame) -> Figure:
    """Fig. 4b: the rate of every head ablated alone, its mean Ships, and whether the one tells the other."""
    rates = interventions[["intervention", "layer", "head"]].dropna().merge(asr, on="intervention")
    ships = ships[ships["ablation"].isin(rates["ablation"])]
    heads = mean_ships(ships)[["layer", "head", "kl_nats"]].merge(rates, on=["layer", "head"], validate="one_to_one")
    heads = heads.astype({"layer": int, "head": int})
    n_layers, n_heads = heads["layer"].max() + 1, heads["head"].max() + 1
    height = min(max(0.13 * n_layers, 2.2), 5.0)
    figure, [[left, middle, right]] = grid(1, 3, max(height * n_heads / n_layers, 2.2), height)
    for axis, column, name in ((left, "asr", "ASR"), (middle, "kl_nats", "mean Ships (nats)")):
        cells = heads.pivot(index="layer", columns="head", values=column)
        _heat(axis, cells, 1.0 if column == "asr" else heads[column].max())
        axis.set(xlabel="head", ylabel="layer" if axis is left else "")
        figure.colorbar(axis.collections[0], ax=axis, label=name, pad=0.02, fraction=0.06)
    [unablated] = asr.loc[asr["level"] == "none", "asr"]
    right.axhline(unablated, color=GREY, ls="--", lw=1, label="no ablation")
    margins = (heads["asr"] - heads["low"]).clip(lower=0), (heads["high"] - heads["asr"]).clip(lower=0)
    right.errorbar(heads["kl_nats"], heads["asr"], margins, fmt="none", ecolor=GREY, elinewidth=0.5, alpha=0.35)
    right.scatter(heads["kl_nats"], heads["asr"], s=14, color=ABLATION_COLOURS["ua"], alpha=0.6, lw=0)
    best = heads.loc[heads["kl_nats"].idxmax()]
    name = f"{best['layer']}-{best['head']}"
    right.annotate(name, (best["kl_nats"], best["asr"]), (-4, 4), textcoords="offset points", ha="right", fontsize=7)
    right.set(xscale="log", ylim=(-0.03, 1.03), xlabel="mean Ships (nats)", ylabel="ASR")
    right.legend(loc="upper left", fontsize=7)
    rho, p_value = spearmanr(heads["kl_nats"], heads["asr"])
    right.set_title(f"Spearman {rho:.2f}, p {p_value:.1g}\n{len(heads)} heads", fontsize=8)
    first = rates.iloc[0]
    setting = f"{first['model']}, {first['dataset']}, {first['format']}, {first['decoding']}, {first['judge']}"
    figure.suptitle(f"{setting}: {ablation_name(first['ablation'])} of one head, {first['n']} answers each", fontsize=9)
    return figure


@styled
def sign(ships: pd.DataFrame, dataset: str | None = None, format: str | None = None) -> Figure:
    """Mean Ships against the change of the refusal log-odds: KL has no sign, this tells carriers from suppressors."""
    means = mean_ships(select(ships, dataset=dataset, format=format))
    models, ablations = in_order(means["model"]), ablation_order(means["ablation"])
    figure, axes = grid(len(ablations), len(models), 3.4, 2.6, sharex=True, sharey="row")
    for row, ablation in enumerate(ablations):
        for axis, model in zip(axes[row], models, strict=True):
            heads = means[(means["model"] == model) & (means["ablation"] == ablation)]
            _sign_panel(axis, heads, ABLATION_COLOURS.get(ablation, GREY))
            axis.set_title(f"{model}, {ablation_name(ablation)}")
        axes[row][0].set_ylabel("change of refusal log-odds")
    figure.supxlabel("mean Ships (nats); below 0 the head carries refusal, above it suppresses it", fontsize=9)
    first = means.iloc[0]
    figure.suptitle(f"{first['dataset']}, {first['format']} format", fontsize=10)
    return figure


@styled
def contrast(
    ships: pd.DataFrame, model: str | None = None, format: str | None = None, benign: tuple[str, ...] = ()
) -> Figure:
    """Mean Ships on harmful queries against benign ones: a safety head lies above the diagonal, not along it."""
    means = mean_ships(select(ships, model=model, format=format))
    plain = means[means["dataset"].isin(benign)].groupby(["ablation", "layer", "head"])["kl_nats"].mean()
    if plain.empty:
        raise UserError("the contrast needs a benign data set among the scored ones; add one to run.queries")
    harmful = means[~means["dataset"].isin(benign)].join(plain.rename("benign"), on=plain.index.names)
    datasets, ablations = in_order(harmful["dataset"]), ablation_order(harmful["ablation"])
    figure, axes = grid(len(ablations), len(datasets), 2.6, 2.4, sharex=True, sharey=True)
    for row, ablation in enumerate(ablations):
        for axis, dataset in zip(axes[row], datasets, strict=True):
            heads = harmful[(harmful["dataset"] == dataset) & (harmful["ablation"] == ablation)]
            _contrast_panel(axis, heads, ABLATION_COLOURS.get(ablation, GREY))
            axis.set_title(f"{dataset}, {ablation_name(ablation)}")
    figure.supxlabel(f"mean Ships on benign queries (nats): {', '.join(benign)}", fontsize=9)
    figure.supylabel("mean Ships on harmful queries (nats)", fontsize=9)
    first = means.iloc[0]
    figure.suptitle(f"{first['model']}, {first['format']} format", fontsize=10)
    return figure


def _contrast_panel(axis: Axes, heads: pd.DataFrame, colour: object) -> None:
    heads = heads[(heads["kl_nats"] > 0) & (heads["benign"] > 0)]
    _log_scale(axis, "x", "y")
    if heads.empty:
        axis.text(0.5, 0.5, "no head changes anything", ha="center", transform=axis.transAxes, color=GREY)
        return
    ends = [heads[["kl_nats", "benign"]].min(axis=None), heads[["kl_nats", "benign"]].max(axis=None)]
    axis.plot(ends, ends, color=GREY, lw=0.8, ls="--")
    axis.scatter(heads["benign"], heads["kl_nats"], s=12, color=colour, alpha=0.6, lw=0)
    for _, head in heads.nlargest(LABELLED, "kl_nats").iterrows():
        above = head["kl_nats"] > head["benign"]  # names stand away from the diagonal
        how = {"ha": "right" if above else "left", "va": "center"}
        _name_head(axis, head, "benign", "kl_nats", (-5, 0) if above else (5, 0), **how)
    axis.margins(0.12)


def _log_scale(axes: Axes, *sides: str) -> None:
    """Logarithmic `sides`, x or y, with plain numbers."""
    for side in sides:
        axes.set(**{f"{side}scale": "log"})
        axis = getattr(axes, f"{side}axis")
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(NullFormatter())


def _name_head(axis: Axes, head: pd.Series, x: str, y: str, offset: tuple[int, int], **how: str) -> None:
    """Write `layer-head` beside its dot; `offset` in points."""
    name = f"{head['layer']:.0f}-{head['head']:.0f}"
    axis.annotate(name, (head[x], head[y]), xytext=offset, textcoords="offset points", fontsize=7, **how)


def _sign_panel(axis: Axes, heads: pd.DataFrame, colour: object) -> None:
    _log_scale(axis, "x")
    axis.axhline(0, color=GREY, lw=0.8)
    heads = heads[heads["kl_nats"] > 0].dropna(subset=["refusal_logodds_change"])
    if heads.empty:
        axis.text(0.5, 0.6, "no refusals to measure", ha="center", transform=axis.transAxes, color=GREY)
        return
    axis.scatter(heads["kl_nats"], heads["refusal_logodds_change"], s=12, color=colour, alpha=0.6, lw=0)
    for place, (_, head) in enumerate(heads.nlargest(LABELLED, "kl_nats").iterrows()):
        offset = (-5, 4) if place % 2 == 0 else (-5, -10)  # above and below by turns
        _name_head(axis, head, "kl_nats", "refusal_logodds_change", offset, ha="right")
    axis.margins(x=0.08, y=0.12)


@styled
def score_distribution(
    subspace: pd.DataFrame, dataset: str | None = None, format: str | None = None, step: int = 1
) -> Figure:
    """Fig. 13: how generalised Ships is spread over the heads, as CDF and as kernel density, one curve per model."""
    scores = select(subspace[subspace["step"] == step], dataset=dataset, format=format)
    models, ablations = in_order(scores["model"]), ablation_order(scores["ablation"])
    palette = dict(zip(models, sns.color_palette(MODEL_PALETTE, len(models)), strict=True))
    figure, axes = grid(2, len(ablations), 3.2, 2.1, sharex="col", sharey="row")
    for column, ablation in enumerate(ablations):
        frame = scores[scores["ablation"] == ablation]
        spread = frame.groupby("model")["score_rad"].nunique() > 1
        curves = {"data": frame, "x": "score_rad", "hue": "model", "palette": palette, "hue_order": models}
        sns.ecdfplot(**curves, ax=axes[0][column], legend=column == len(ablations) - 1)
        smooth = {**curves, "data": frame[frame["model"].map(spread)]}
        if spread.any():  # equal scores have no density
            sns.kdeplot(**smooth, ax=axes[1][column], cut=0, common_norm=False, legend=False)
        axes[0][column].set(title=ablation_name(ablation), ylabel="share of heads", ylim=(0, 1.02))
        axes[1][column].set(xlabel="generalised Ships (rad)", ylabel="density", xlim=(0, None))
    first = scores.iloc[0]
    figure.suptitle(f"{first['dataset']}, {first['format']} format", fontsize=10)
    return figure


@styled
def overlap_ablations(subspace: pd.DataFrame, k: int = 10) -> Figure:
    """Fig. 5a: how many of the top k heads by generalised Ships UA and SC share, per model, data set and format."""
    counts = overlaps(subspace.sort_values("ablation", key=_places, kind="stable"), "ablation", k)
    return _draw_overlaps(counts, counts["model"], k)


@styled
def overlap_models(subspace: pd.DataFrame, k: int = 10) -> Figure:
    """Fig. 5b: how many of the top k heads two models of one shape share, per ablation, data set and format.

    An empty figure says so if no two models have the same layers and heads.
    """
    counts = overlaps(subspace, "model", k)
    if counts.empty:
        figure, [[axis]] = grid(1, 1, 3.6, 0.6)
        axis.set_axis_off()
        axis.text(0.5, 0.5, "no two models have the same layers and heads", ha="center", va="center")
        return figure
    return _draw_overlaps(counts, counts["ablation"], k)


def _places(ablations: pd.Series) -> pd.Series:
    order = ablation_order(ablations)
    return ablations.map(order.index)


def _draw_overlaps(counts: pd.DataFrame, panel: pd.Series, k: int) -> Figure:
    """A panel per pair and value of `panel`, a bar per data set and format."""
    if counts.empty:
        raise UserError("one ablation only is in the table; fig. 5a compares two: add one to run.ablations")
    pairs = counts["one"].map(ablation_name) + " and " + counts["other"].map(ablation_name)
    settings = counts["dataset"] + ", " + counts["format"]
    counts = counts.assign(panel=panel.map(ablation_name) + ": " + pairs, setting=settings)
    panels = in_order(counts["panel"])
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    settings = in_order(counts["setting"])
    figure, axes = grid(rows, columns, 3.6, 0.55 + 0.24 * len(settings), sharex=True, sharey=True)
    flat = [axis for row in axes for axis in row]
    for axis, panel in zip(flat, panels, strict=False):
        rows_here = counts[counts["panel"] == panel].set_index("setting").reindex(settings)
        chance = rows_here.dropna().iloc[0]
        axis.axvspan(chance["low"], chance["high"], color="0.88", lw=0, label="chance, 95 % range")
        axis.axvline(chance["expected"], color=GREY, ls="--", lw=1, label="chance, mean")
        bars = {"height": 0.55, "lw": 0, "color": ABLATION_COLOURS["ua"], "label": "shared"}
        axis.barh(range(len(settings)), rows_here["shared"], **bars)
        for place, row in enumerate(rows_here.itertuples()):
            if not np.isnan(row.shared):
                text = f"{row.shared:.0f}  p {row.p_value:.1g}, RBO {row.rbo:.2f}"
                axis.text(row.shared + 0.15, place, text, va="center", fontsize=7)
        axis.set(
            title=panel, xlim=(0, 1.7 * k), xticks=range(0, k + 1, 2), yticks=range(len(settings)), yticklabels=settings
        )
        axis.yaxis.set_minor_locator(NullLocator())
    for axis in flat[len(panels) :]:
        axis.set_axis_off()
    axes[0][0].invert_yaxis()
    figure.supxlabel(f"heads shared among the top {k} by generalised Ships", fontsize=9)
    figure.legend(*flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)
    return figure
