"""Figures: what is drawn is what the tables say."""

import re

import numpy as np
import pandas as pd
import pytest

import synthetic_results as synthetic
from safety_heads import asr_figures, figures
from safety_heads.errors import UserError
from safety_heads.figure_style import save
from safety_heads.statistics import asr_table, overlaps

BENIGN = ("rho-plain",)


@pytest.fixture(scope="module")
def ships() -> pd.DataFrame:
    return synthetic.ships()


@pytest.fixture(scope="module")
def subspace() -> pd.DataFrame:
    return synthetic.subspace()


@pytest.fixture(scope="module")
def asr() -> pd.DataFrame:
    frame = asr_table(synthetic.judgements(), synthetic.interventions(), synthetic.SHARES)
    return frame[frame["model"] == "aligned-a"]


def texts(axis) -> list[str]:
    return [text.get_text() for text in axis.texts]


def panels(figure) -> list:
    return [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]


def test_ships_heatmap_shows_the_means_and_names_the_top_head(ships):
    figure = figures.ships_heatmap(ships, "aligned-a", "chat", BENIGN)
    ua, sc = panels(figure)[:3], panels(figure)[3:]
    assert [axis.get_title() for axis in ua] == ["advbench", "maliciousinstruct", "rho-plain (benign)"]
    own = ships.query("model == 'aligned-a' and format == 'chat' and dataset == 'advbench' and ablation == 'ua'")
    expected = own.groupby(["layer", "head"])["kl_nats"].mean().unstack().to_numpy()
    np.testing.assert_allclose(ua[0].collections[0].get_array().reshape(expected.shape), expected)
    assert texts(ua[0]) == ["top 18-8: 0.5"]
    assert ua[0].patches[0].get_xy() == (8, 18)
    assert {axis.collections[0].get_clim() for axis in ua} == {(0.0, 0.5)}
    assert len({axis.collections[0].get_clim() for axis in sc}) == 1


def test_ships_heatmap_has_every_head_of_other_shapes():
    figure = figures.ships_heatmap(synthetic.ships(32, 32), "aligned-b", "template", BENIGN)
    axis = panels(figure)[0]
    assert axis.get_xlim() == (0, 32) and axis.get_ylim() == (0, 32)
    assert axis.collections[0].get_array().size == 1024


def test_a_figure_of_one_thing_asks_which(ships):
    with pytest.raises(UserError, match="one model; choose from aligned-a, aligned-b"):
        figures.ships_heatmap(ships)
    with pytest.raises(UserError, match="model 'gpt' is not in the table"):
        figures.ships_heatmap(ships, "gpt")


def test_sign_puts_the_carrier_below_zero(ships):
    figure = figures.sign(ships, "advbench", "chat")
    axis = figure.axes[0]
    points = axis.collections[0].get_offsets()
    assert len(points) == synthetic.N_LAYERS * synthetic.N_HEADS and axis.get_xscale() == "log"
    np.testing.assert_allclose(points[points[:, 0].argmax()], [0.5, -3.0])
    assert "18-8" in texts(axis) and len(texts(axis)) == figures.LABELLED


def test_contrast_puts_the_safety_head_above_the_diagonal(ships):
    figure = figures.contrast(ships, "aligned-a", "chat", BENIGN)
    assert len(figure.axes) == 2 * 2
    axis = figure.axes[0]
    points = axis.collections[0].get_offsets()
    above = points[:, 1] / points[:, 0]
    assert points[above.argmax(), 1] == pytest.approx(0.5) and "18-8" in texts(axis)
    assert axis.get_title() == "advbench, UA" and {axis.get_xscale(), axis.get_yscale()} == {"log"}
    with pytest.raises(UserError, match="needs a benign data set"):
        figures.contrast(ships, "aligned-a", "chat")


def test_sign_says_so_when_there_are_no_refusals(ships):
    figure = figures.sign(ships.assign(refusal_logodds_change=np.nan), "advbench", "chat")
    assert texts(figure.axes[0]) == ["no refusals to measure"]


def test_score_distribution_is_a_distribution(subspace):
    figure = figures.score_distribution(subspace, "advbench", "chat")
    cumulative, density = figure.axes[0], figure.axes[2]
    for line in cumulative.lines:
        heights = line.get_ydata()
        assert heights[0] == 0 and heights[-1] == 1 and (np.diff(heights) >= 0).all()
    assert cumulative.get_ylim()[0] == 0 and density.get_xlim()[0] == 0
    assert max(line.get_xdata().max() for line in cumulative.lines) == pytest.approx(0.4)
    assert len(density.lines) == len(synthetic.MODELS)


def test_score_distribution_survives_constant_scores(subspace):
    figures.score_distribution(subspace.assign(score_rad=0.0), "advbench", "chat")


def test_overlaps_count_shared_heads_and_draw_chance(subspace):
    counts = overlaps(subspace, "model", 10)
    ua = counts[counts["ablation"] == "ua"]
    assert len(ua) == 6 and (ua["shared"] >= 4).all() and ua["expected"].unique() == pytest.approx([100 / 270])
    own = subspace.assign(score_rad=subspace["layer"] * 100.0 + subspace["head"])
    assert (overlaps(own, "model", 10)["shared"] == 10).all()
    axis = figures.overlap_models(subspace).axes[0]
    assert [bar.get_width() for bar in axis.patches[1:]] == ua["shared"].tolist()
    assert axis.patches[0].get_x() == 0 and axis.patches[0].get_width() == 2  # chance: 0 to 2 of 10 among 270
    assert axis.get_xlim()[0] == 0
    assert texts(axis)[0].startswith(f"{ua['shared'].iloc[0]}  p ")
    assert texts(axis)[0].endswith(f"RBO {ua['rbo'].iloc[0]:.2f}")
    assert ua["p_value"].iloc[0] < 0.01 and ua["rbo_chance"].iloc[0] < 0.1
    assert figures.overlap_ablations(subspace).axes[0].get_title() == "aligned-a: UA and SC"


def test_models_of_another_shape_are_not_compared(subspace):
    other = subspace[(subspace["model"] != "aligned-b") | (subspace["layer"] < 20)]
    [axis] = figures.overlap_models(other).axes
    assert axis.texts[0].get_text() == "no two models have the same layers and heads" and not axis.patches
    with pytest.raises(UserError, match="one ablation only"):
        figures.overlap_ablations(other[other["ablation"] == "ua"])


def test_experiments_stand_below_the_runs_own_bars(asr):
    of_run = asr.query("format == 'chat'")
    sure = of_run[of_run["intervention"].isin(["none", "ships-ua-1"])]
    sure = sure.assign(intervention="sure+" + sure["intervention"], asr=0.5, low=0.4, high=0.6)
    figure = asr_figures.experiments(pd.concat([of_run, sure]), benign=BENIGN)
    axis = figure.axes[0]
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == ["chat", "chat, UA", "chat, SC", "sure", "sure, UA"] and axis.get_xlim() == (0, 1)
    assert [bar.get_width() for bar in axis.patches][3:] == [0.5, 0.5] and axis.yaxis_inverted()


def test_asr_bars_draw_the_rates_from_zero_to_one(asr):
    figure = asr_figures.asr_bars(asr, benign=BENIGN)
    assert len(figure.axes) == 4 * 3
    assert all(axis.get_ylim() == (0, 1) for axis in figure.axes)
    assert figure.axes[2].get_title() == "rho-plain (benign)" and figure.axes[0].get_ylabel() == "template, greedy"
    here = asr.query("dataset == 'advbench' and format == 'template' and decoding == 'greedy' and size <= 1")
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    rates = here.set_index("intervention")["asr"]
    chosen = [f"{level}-{ablation}-1" for level in ("query", "ships", "dataset") for ablation in ("ua", "sc")]
    random = [rates[rates.index.str.startswith(f"random-{ablation}-1-")].mean() for ablation in ("ua", "sc")]
    assert heights == pytest.approx([rates["none"], *rates[chosen], *random])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["no ablation", "UA", "SC", "UA, random", "SC, random"]


def test_group_size_draws_intervals_draws_and_their_mean(asr):
    figure = asr_figures.group_size(asr, benign=BENIGN)
    axis = figure.axes[0]
    here = asr.query("dataset == 'advbench' and format == 'template' and decoding == 'greedy'")
    ua = here[here["intervention"].isin(["none", "dataset-ua-1", "dataset-ua-2", "dataset-ua-3"])].sort_values("size")
    container = axis.containers[0]
    np.testing.assert_allclose(container.lines[0].get_ydata(orig=False), ua["asr"])
    drawn = np.array([segment[:, 1] for segment in container.lines[2][0].get_segments()], dtype=float)
    np.testing.assert_allclose(drawn, ua[["low", "high"]])
    dots = [c for c in axis.collections if c.get_offsets().shape == (9, 2)]
    assert len(dots) == 2 and axis.get_ylim() == (0, 1) and list(axis.get_xticks()) == [0, 1, 2, 3]
    with pytest.raises(UserError, match="'sahara'"):
        asr_figures.group_size(asr, level="sahara")


def test_figures_survive_missing_rates(asr):
    asr_figures.asr_bars(asr.assign(asr=np.nan, low=np.nan, high=np.nan))
    asr_figures.group_size(asr.assign(asr=np.nan, low=np.nan, high=np.nan))


def test_saving_twice_gives_the_same_bytes_and_no_date(subspace, tmp_path):
    for name in ("one", "two"):
        save(figures.overlap_models(subspace), tmp_path / name)
    for suffix in (".png", ".pdf"):
        first, second = ((tmp_path / name).with_suffix(suffix).read_bytes() for name in ("one", "two"))
        assert first == second
        assert not re.search(rb"CreationDate|tIME|Matplotlib", first)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.pdf", "one.png", "two.pdf", "two.png"]
