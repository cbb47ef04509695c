"""One look for all figures, and one way to save them: colour-blind-safe, the same bytes for the same data."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from safety_heads.errors import UserError
from safety_heads.files import atomic_path

_BLUE, _ORANGE, _GREEN, _PURPLE = (sns.color_palette("colorblind")[place] for place in (0, 1, 2, 4))
ABLATION_COLOURS = {"ua": _BLUE, "sc": _ORANGE, "zero": _GREEN, "mean": _PURPLE}
GREY = "0.45"
ABLATION_NAMES = {"ua": "UA", "sc": "SC", "zero": "zero", "mean": "mean"}
MODEL_PALETTE = "colorblind"
STYLE = {
    **sns.axes_style("ticks"),
    **sns.plotting_context("notebook", font_scale=0.8),
    "axes.titlesize": 9,
    "axes.titlepad": 4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 100,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "safety-heads",
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Run a figure function in this style and take its figure out of pyplot's keeping."""

    @wraps(draw)
    def wrapper(*args: object, **kwargs: object) -> Figure:
        with plt.rc_context(STYLE):
            try:
                figure = draw(*args, **kwargs)
                figure.canvas.draw()  # fixes the constrained layout while the style holds
            finally:
                plt.close("all")
        return figure

    return wrapper


def save(figure: Figure, stem: str | Path) -> tuple[Path, Path]:
    """Write `stem`.png (200 dpi) and `stem`.pdf, without timestamps; each takes its name only when complete."""
    stem = Path(stem)
    paths = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.pdf")
    with plt.rc_context(STYLE):
        with atomic_path(paths[0]) as partial:
            figure.savefig(partial, format="png", dpi=200, metadata={"Software": None})
        with atomic_path(paths[1]) as partial:
            figure.savefig(partial, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
    return paths


def grid(rows: int, columns: int, width: float, height: float, **kwargs: object) -> tuple[Figure, list[list[Axes]]]:
    """A constrained grid of panels, each `width` x `height` inches; `kwargs` go to `plt.subplots`."""
    size = (max(width * columns, 4.5) + 0.6, height * rows + 0.9)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **kwargs)
    return figure, axes.tolist()


def select(frame: pd.DataFrame, **values: str | None) -> pd.DataFrame:
    """The rows with these values. A column whose value is None must hold one value only, or a UserError says which."""
    for column, value in values.items():
        found = list(frame[column].dropna().unique())
        if value is None and len(found) > 1:
            raise UserError(f"the figure shows one {column}; choose from {', '.join(map(str, found))}")
        if value is not None and value not in found:
            raise UserError(f"{column} {value!r} is not in the table; it has {', '.join(map(str, found))}")
        frame = frame if value is None else frame[frame[column] == value]
    return frame


def in_order(column: pd.Series, first: tuple[str, ...] = ()) -> list[str]:
    """The values of a column, those of `first` in front and in that order, the others as they come."""
    found = list(column.dropna().unique())
    return [value for value in first if value in found] + [value for value in found if value not in first]


def ablation_order(column: pd.Series) -> list[str]:
    return in_order(column, tuple(ABLATION_COLOURS))


def ablation_name(ablation: str) -> str:
    return ABLATION_NAMES.get(ablation, ablation)


def dataset_title(dataset: str, benign: tuple[str, ...]) -> str:
    return f"{dataset} (benign)" if dataset in benign else dataset
