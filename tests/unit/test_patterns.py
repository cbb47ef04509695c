"""Attention patterns: the architecture's own, uniform as q vanishes, untouched by v."""

import pandas as pd
import pytest
import torch

import tiny_models
from safety_heads import patterns, tables
from safety_heads.errors import UserError
from safety_heads.heads import Head
from safety_heads.pattern_figures import attention_maps

PROMPT = [5, 9, 7, 12, 30, 8, 22, 9, 11, 4]


@pytest.mark.parametrize(
    "kind", ["llama-gqa", "mistral-window", "qwen3-qk-norm", "gemma2-caps", "phi3-fused", "gpt-oss-sinks"]
)
def test_the_unscaled_pattern_is_the_architectures_own(kind):
    model = tiny_models.build(kind)
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        own = model(torch.tensor([PROMPT]), output_attentions=True).attentions
    model.set_attn_implementation("safety_heads")
    for head in (Head(0, 1), Head(2, 3)):
        found = patterns.head_patterns(model, PROMPT, head)
        expected = own[head.layer][0, head.head][:, : len(PROMPT)]
        torch.testing.assert_close(found["q", 1.0], expected, atol=1e-5, rtol=1e-4)
    assert model.config._attn_implementation == "safety_heads"


def test_a_vanishing_query_or_key_attends_to_all_alike_and_values_change_nothing():
    found = patterns.head_patterns(tiny_models.build("llama-gqa"), PROMPT, Head(1, 2))
    uniform = torch.ones(len(PROMPT), len(PROMPT)).tril() / torch.arange(1, len(PROMPT) + 1)[:, None]
    for scaled in "qk":
        torch.testing.assert_close(found[scaled, 1e-10], uniform)
        torch.testing.assert_close(found[scaled, 0.5], found["q", 0.5])
    assert (found["q", 1.0] - uniform).abs().max() > 0.1
    assert all(torch.equal(found["v", epsilon], found["q", 1.0]) for epsilon in patterns.EPSILONS)
    assert not torch.equal(found["mean q", 0.0], found["q", 1.0])


def test_a_missing_head_is_named():
    for head in (Head(3, 0), Head(0, 4)):
        with pytest.raises(UserError, match=f"head {head} does not exist"):
            patterns.head_patterns(tiny_models.build("llama-gqa"), PROMPT, head)


def test_rows_make_a_table_and_a_figure(tmp_path):
    model, key = tiny_models.build("llama-mha"), {"model": "m", "dataset": "d", "format": "chat", "layer": 1, "head": 2}
    rows = pd.concat(
        patterns.pattern_rows(patterns.head_patterns(model, prompt, Head(1, 2))).assign(**key, query_id=str(number))
        for number, prompt in enumerate((PROMPT, PROMPT[:6]))
    )
    tables.write_table(rows, tables.PATTERNS, tmp_path / "patterns.parquet")
    frame = tables.read_table(tables.PATTERNS, tmp_path / "patterns.parquet")
    sums = frame.groupby(["query_id", "scaled", "epsilon", "row"])["weight"].sum()
    assert sums.to_numpy() == pytest.approx(1, abs=1e-5)
    figure = attention_maps(frame)
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    scaled = [f"{epsilon} {name}" for name in "qkv" for epsilon in ("0.5", "0.001", "1e-10")]
    assert titles == ["as it is", *scaled, "mean q", "mean k"]
