"""Figures of attention patterns (paper, figs. 7 and 8). Positions only: no prompt's text is shown."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from safety_heads.figure_style import grid, styled

WITHOUT_SCALING = 1.0


@styled
def attention_maps(patterns: pd.DataFrame) -> Figure:
    """A row per prompt: the head's pattern as it is, with q, k and v scaled, and with the heads' mean q and k."""
    columns = _columns(patterns)
    prompts = list(patterns["query_id"].unique())
    figure, axes = grid(len(prompts), len(columns), 1.15, 1.15)
    for number, (query, row) in enumerate(zip(prompts, axes, strict=True)):
        of_prompt = patterns[patterns["query_id"] == query]
        for axis, (title, scaled, epsilon) in zip(row, columns, strict=True):
            one = of_prompt[(of_prompt["scaled"] == scaled) & (of_prompt["epsilon"] == epsilon)]
            _map(axis, one.pivot(index="row", columns="column", values="weight"))
            axis.set_title(title if number == 0 else "", fontsize=8)
        row[0].set_ylabel(f"prompt {number + 1}", fontsize=8)
    flat = [axis for row in axes for axis in row]
    figure.colorbar(flat[0].collections[0], ax=flat, label="attention weight", fraction=0.02, pad=0.01)
    figure.supxlabel("attended token (across), attending token (down)", fontsize=9)
    first = patterns.iloc[0]
    head = f"head {first['layer']}-{first['head']}"
    figure.suptitle(f"{first['model']}, {head}: {first['dataset']}, {first['format']} format", fontsize=10)
    return figure


def _columns(patterns: pd.DataFrame) -> list[tuple[str, str, float]]:
    """Title, what is scaled, and epsilon of each column; the unscaled pattern stands once, first."""
    columns = [("as it is", "q", WITHOUT_SCALING)]
    for scaled, epsilon in patterns[["scaled", "epsilon"]].drop_duplicates().itertuples(index=False):
        if epsilon != WITHOUT_SCALING:
            title = scaled if scaled.startswith("mean") else f"{epsilon:.2g} {scaled}"
            columns.append((title, scaled, epsilon))
    order = ["q", "k", "v", "mean q", "mean k"]
    return [columns[0], *sorted(columns[1:], key=lambda column: (order.index(column[1]), -column[2]))]


def _map(axis: Axes, cells: pd.DataFrame) -> None:
    axis.pcolormesh(cells.to_numpy(), cmap="rocket_r", norm=PowerNorm(0.5, 0, 1), rasterized=True)
    axis.set(aspect="equal", xticks=[], yticks=[])
    axis.invert_yaxis()
