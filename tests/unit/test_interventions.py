"""What is ablated: the chosen heads, and controls that are never among them."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safety_heads import interventions, tables
from safety_heads.errors import UserError
from safety_heads.heads import Ablation, Head

UA = Ablation("ua", 1e-5)
HEADS = [Head(layer, head) for layer in range(3) for head in range(4)]


def ships():
    """Query a puts 0-0, 0-1, ... first, query b 2-3, 2-2, ...; a's scores are larger."""
    rows = [{"query_id": "a", "layer": h.layer, "head": h.head, "kl_nats": 12.0 - i} for i, h in enumerate(HEADS)]
    rows += [{"query_id": "b", "layer": h.layer, "head": h.head, "kl_nats": 0.1 * i} for i, h in enumerate(HEADS)]
    return pd.DataFrame(rows).assign(model="m", dataset="d", format="chat", ablation="ua", refusal_logodds_change=0.0)


SAHARA = pd.DataFrame({"step": [1, 2, 3], "layer": [1, 1, 0], "head": [0, 1, 3], "score_rad": [0.3, 0.4, 0.5]})


def chosen(draws=3, sizes=3, seed=0):
    return interventions.interventions(ships(), SAHARA, HEADS, UA, interventions.Plan(sizes, draws, seed))


def test_the_plan_is_what_the_paper_ablates():
    frame = chosen()
    assert interventions.ablated_heads(frame[frame["intervention"] == "query-ua-2"], "a") == (
        (Head(0, 0), UA),
        (Head(0, 1), UA),
    )
    assert interventions.ablated_heads(frame[frame["intervention"] == "query-ua-1"], "b") == ((Head(2, 3), UA),)
    group = interventions.ablated_heads(frame[frame["intervention"] == "dataset-ua-3"], "any")
    assert [head for head, _ in group] == [Head(1, 0), Head(1, 1), Head(0, 3)]
    assert interventions.ablated_heads(frame[frame["intervention"] == "ships-ua-1"], "a") == ((Head(0, 0), UA),)
    assert frame["intervention"].nunique() == 3 + 3 + 1 + 9


def test_controls_are_of_the_first_heads_layer_and_by_sign():
    scores = ships().assign(refusal_logodds_change=[-0.1 * head.head + 0.3 * head.layer for head in HEADS] * 2)
    frame = interventions.controls(scores, UA, interventions.Plan(3, 3, 0)).set_index("intervention")
    first = Head(0, 0)  # by mean Ships
    drawn = {Head(row.layer, row.head) for row in frame[frame["level"] == "layer"].itertuples()}
    assert drawn == {Head(0, 1), Head(0, 2), Head(0, 3)} and first not in drawn
    signed = frame.loc[["carrier-ua-1", "suppressor-ua-1"], ["layer", "head"]].to_numpy().tolist()
    assert signed == [[0, 3], [2, 0]]
    unsigned = interventions.controls(
        ships().assign(refusal_logodds_change=float("nan")), UA, interventions.Plan(3, 2, 0)
    )
    assert unsigned["intervention"].tolist() == ["layer-ua-1-draw1", "layer-ua-1-draw2"]


def test_a_querys_own_heads_are_unknown_for_other_queries():
    frame = chosen()
    assert interventions.ablated_heads(frame[frame["intervention"] == "query-ua-1"], "unscored") is None
    assert interventions.ablated_heads(interventions.unablated(), "a") == ()


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_random_heads_are_never_chosen_ones_and_draws_are_nested(seed, draw):
    plan = interventions.Plan(3, 4, seed)
    avoided = {Head(0, 0), Head(1, 1), Head(2, 3)}
    drawn = interventions.random_heads(HEADS, avoided, plan, draw)
    assert len(set(drawn)) == 3 and not set(drawn) & avoided
    assert drawn == interventions.random_heads(HEADS, avoided, plan, draw)


def test_random_groups_avoid_all_that_was_chosen_in_any_way():
    frame = chosen()
    places = frame.assign(place=list(zip(frame["layer"], frame["head"], strict=True)))
    random = set(places.loc[places["level"] == "random", "place"])
    assert not random & set(places.loc[places["level"] != "random", "place"])
    sizes = frame[frame["level"] == "random"].groupby("intervention").size()
    assert sizes.to_dict() == {f"random-ua-{size}-draw{draw}": size for size in (1, 2, 3) for draw in (1, 2, 3)}


def test_the_table_fits_its_schema(tmp_path):
    frame = pd.concat([interventions.unablated(), chosen()], ignore_index=True).assign(
        model="m", dataset="d", format="chat"
    )
    tables.write_table(frame, tables.INTERVENTIONS, tmp_path / "i.parquet")
    read = tables.read_table(tables.INTERVENTIONS, tmp_path / "i.parquet")
    assert interventions.ablated_heads(read[read["intervention"] == "query-ua-1"], "b") == ((Head(2, 3), UA),)
    assert interventions.ablated_heads(read[read["intervention"] == "none"], "b") == ()


def test_more_heads_than_the_model_has_left_are_refused():
    small = HEADS[:8]
    with pytest.raises(UserError, match="3 random heads are wanted, but only 0"):
        interventions.random_heads(small, set(small), interventions.Plan(3, 1, 0), 1)
    with pytest.raises(UserError, match="Sahara's group has 3 heads, 4"):
        chosen(sizes=4)


def test_the_map_has_every_head_once_per_ablation_and_none_once():
    heads, ablations = [Head(0, 0), Head(2, 1)], [Ablation("ua", 1e-5), Ablation("mean", 0.0)]
    frame = interventions.every_head(heads, ablations, beside_none=True)
    names = ["none", "map-ua-0-0", "map-ua-2-1", "map-mean-0-0", "map-mean-2-1"]
    assert frame["intervention"].tolist() == names
    [[head, ablation]] = interventions.ablated_heads(frame[frame["intervention"] == "map-mean-2-1"], "any query")
    assert (head, ablation) == (Head(2, 1), Ablation("mean", 0.0))
    assert "none" not in interventions.every_head(heads, ablations, beside_none=False)["intervention"].tolist()
