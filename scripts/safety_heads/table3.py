"""Table 3 of the paper (table 5 is its other model): change of ASR against the number of ablated heads."""

from collections.abc import Mapping

import pandas as pd

from safety_heads.markdown import markdown_table, rate

LEVELS = ["dataset", "query", "ships", "random"]
ROW = ["model", "format", "decoding", "judge", "level", "ablation", "dataset"]


def table3(differences: pd.DataFrame) -> pd.DataFrame:
    """From `statistics.paired_differences`: one row per model, format, decoding, judge, level, ablation and dataset.

    Columns: change_1, low_1, high_1, change_2, ... for each number of heads, and mean, the mean of the changes.
    low and high are the 95 % interval of the paired difference. For level `random` the change is the mean over the
    draws, and low and high are the lowest and the highest draw.
    """
    single = differences[differences["level"] != "random"].rename(columns={"difference": "change"})
    random = differences[differences["level"] == "random"].groupby([*ROW, "size"], as_index=False)["difference"]
    draws = random.agg(change="mean", low="min", high="max")
    cells = pd.concat([single, draws], ignore_index=True)[[*ROW, "size", "change", "low", "high"]]
    sizes = sorted(cells["size"].astype(int).unique())
    wide = cells.astype({"size": int}).pivot(index=ROW, columns="size", values=["change", "low", "high"])
    table = pd.DataFrame({f"{kind}_{size}": wide[kind, size] for size in sizes for kind in ("change", "low", "high")})
    table["mean"] = table[[f"change_{size}" for size in sizes]].mean(axis=1)
    order = {level: place for place, level in enumerate(LEVELS)}
    table = table.reset_index()
    return table.sort_values(
        ROW, key=lambda column: column.map(order) if column.name == "level" else column, ignore_index=True
    )


def table3_markdown(table: pd.DataFrame, head_shares: Mapping[str, float]) -> str:
    """`table3` for reading: one section per model, format, decoding and judge, one cell per number of heads.

    `head_shares` gives, per model, the share of the parameters that one ablated head is.
    """
    sizes = [column.removeprefix("change_") for column in table.columns if column.startswith("change_")]
    sections = []
    for key, rows in table.groupby(["model", "format", "decoding", "judge"], sort=False):
        shown = rows[["level", "ablation", "dataset"]].copy()
        for size in sizes:
            cells = rows[[f"change_{size}", f"low_{size}", f"high_{size}"]].to_numpy()
            shown[size] = [rate(*cell) for cell in cells]
        shown["mean"] = rows["mean"].map(rate)
        title = "### {}, {} format, {} decoding, judge {}\n\n".format(*key)
        share = f"One head is {100 * head_shares[key[0]]:.3f} % of the parameters.\n\n"
        sections.append(title + share + markdown_table(shown))
    note = (
        "Change of ASR against the same queries without ablation, for 1 and more ablated heads, with its 95 % interval "
        "(Newcombe's, paired); for random heads the mean of the draws and their range.\n\n"
    )
    return note + "\n".join(sections)
