"""What is ablated when answers are generated: chosen heads, and as many random ones beside them as a control."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from safety_heads.errors import UserError
from safety_heads.heads import AblatedHead, Ablation, Head
from safety_heads.ranking import mean_ships, ranked_heads
from safety_heads.tables import INTERVENTIONS


@dataclass(frozen=True)
class Plan:
    """The group sizes 1..`sizes`, and how many random groups of each size stand beside them."""

    sizes: int
    random_draws: int
    seed: int


def unablated() -> pd.DataFrame:
    """The intervention `none`: one row without a head."""
    return _rows("none", "none", [], None)


def interventions(
    ships: pd.DataFrame, sahara: pd.DataFrame, heads: Sequence[Head], ablation: Ablation, plan: Plan
) -> pd.DataFrame:
    """All interventions with one ablation, from one setting's Ships scores and Sahara group.

    `query`: each query's own best k heads (section 3.2). `dataset`: the first k of Sahara's group (section 4.2).
    `ships`: the one head with the highest mean Ships. `random`: k heads that are none of these.
    Raises UserError if the group is too small, or the model has too few heads.
    """
    if len(sahara) < plan.sizes:
        raise UserError(f"Sahara's group has {len(sahara)} heads, {plan.sizes} are to be ablated; run more steps")
    group = [Head(int(row.layer), int(row.head)) for row in sahara.sort_values("step").itertuples()]
    best = Head(*ranked_heads(mean_ships(ships), "kl_nats")[0])
    by_query = {
        query: [Head(*place) for place in ranked_heads(scores, "kl_nats")[: plan.sizes]]
        for query, scores in ships.groupby("query_id", sort=False)
    }
    chosen = {best, *group, *(head for own in by_query.values() for head in own)}
    parts = [_rows(f"ships-{ablation.kind}-1", "ships", [best], ablation)]
    for size in range(1, plan.sizes + 1):
        name = f"{ablation.kind}-{size}"
        for query, own in by_query.items():
            parts.append(_rows(f"query-{name}", "query", own[:size], ablation, query_id=query))
        parts.append(_rows(f"dataset-{name}", "dataset", group[:size], ablation))
        for draw in range(1, plan.random_draws + 1):
            drawn = random_heads(heads, chosen, plan, draw)[:size]
            parts.append(_rows(f"random-{name}-draw{draw}", "random", drawn, ablation, draw=draw))
    return pd.concat(parts, ignore_index=True)


def controls(ships: pd.DataFrame, ablation: Ablation, plan: Plan) -> pd.DataFrame:
    """What else to ablate to understand the head that Ships puts first, from one setting's scores.

    `layer`: random heads of its own layer. `carrier`, `suppressor`: the heads without which the log-odds of a refusal
    fall and rise most; none where the model has no refusals to measure.
    """
    means = mean_ships(ships)
    best = Head(*ranked_heads(means, "kl_nats")[0])
    others = [Head(best.layer, head) for head in sorted(set(means.loc[means["layer"] == best.layer, "head"]))]
    others.remove(best)
    order = _permutation(plan.seed, 0, len(others))[: plan.random_draws]
    parts = [
        _rows(f"layer-{ablation.kind}-1-draw{draw}", "layer", [others[place]], ablation, draw=draw)
        for draw, place in enumerate(order, start=1)
    ]
    signed = means.dropna(subset=["refusal_logodds_change"]).sort_values("refusal_logodds_change")
    for level, rows in (("carrier", signed.head(1)), ("suppressor", signed.tail(1))):
        heads = [Head(int(row.layer), int(row.head)) for row in rows.itertuples()]
        parts += [_rows(f"{level}-{ablation.kind}-1", level, [head], ablation) for head in heads]
    return pd.concat([_rows("none", "none", [], None).head(0), *parts], ignore_index=True)


def every_head(heads: Sequence[Head], ablations: Sequence[Ablation], beside_none: bool) -> pd.DataFrame:
    """Each of `heads` alone, for the map of success rates over all heads (paper, fig. 4b), and `none` if wanted."""
    alone = [_rows(f"map-{how.kind}-{head}", "map", [head], how) for how in ablations for head in heads]
    return pd.concat([unablated()] * beside_none + alone, ignore_index=True)


def random_heads(heads: Sequence[Head], chosen: set[Head], plan: Plan, draw: int) -> list[Head]:
    """`plan.sizes` heads none of which is in `chosen`; a draw's smaller groups are the beginnings of its larger."""
    others = sorted(set(heads) - chosen)
    if len(others) < plan.sizes:
        raise UserError(
            f"{plan.sizes} random heads are wanted, but only {len(others)} of the model's {len(heads)} heads were not "
            f"chosen; lower run.group_size"
        )
    return [others[place] for place in _permutation(plan.seed, draw, len(others))[: plan.sizes]]


def _permutation(seed: int, draw: int, n: int) -> np.ndarray:
    digest = hashlib.sha256(f"{seed}:{draw}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little")).permutation(n)


def _rows(
    name: str,
    level: str,
    heads: Sequence[Head],
    ablation: Ablation | None,
    query_id: str | None = None,
    draw: int | None = None,
) -> pd.DataFrame:
    """One row per head (one without a head for `none`); the setting's columns are the caller's to add."""
    traits = {"intervention": name, "level": level, "size": len(heads), "draw": draw, "query_id": query_id}
    how = {"ablation": ablation and ablation.kind, "epsilon": ablation and ablation.epsilon}
    places = [{"layer": head.layer, "head": head.head} for head in heads] or [{"layer": None, "head": None}]
    columns = [name for name in INTERVENTIONS.schema.names if name not in ("model", "dataset", "format")]
    return pd.DataFrame([{**traits, **place, **how} for place in places], columns=columns, dtype=object)


def ablated_heads(frame: pd.DataFrame, query_id: str) -> tuple[AblatedHead, ...] | None:
    """What one intervention, given by its rows, ablates for a query; None if it does not cover that query."""
    rows = frame[frame["query_id"].isna() | (frame["query_id"] == query_id)]
    if rows.empty:
        return None
    rows = rows.dropna(subset="layer")
    return tuple((Head(int(r.layer), int(r.head)), Ablation(r.ablation, float(r.epsilon))) for r in rows.itertuples())
