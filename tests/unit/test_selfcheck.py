"""What a model must pass before anything is concluded from it."""

import pytest
import torch

import tiny_models
from safety_heads import attention, models, scoring, selfcheck
from safety_heads.errors import UserError
from safety_heads.heads import Ablation, Head
from safety_heads.sweep import Readout, plain_readout

UA = Ablation("ua", 1e-5)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return models.load(tiny_models.save("llama-gqa", tmp_path_factory.mktemp("model") / "tiny"))[0]


@pytest.mark.parametrize("kind", tiny_models.MODERN)
def test_modern_architectures_are_covered_and_swept(kind, tmp_path):
    model = models.load(tiny_models.save(kind, tmp_path / "tiny"))[0]
    check = selfcheck.check_model(model, tiny_models.prompts((6, 12, 9), prefix=[5, 6]))
    assert check.sweep_is_exact
    assert check.sweep_gap < 1e-4 and check.attention_gap < 1e-4


def test_attention_with_a_part_that_is_not_covered_is_refused_by_name(model, monkeypatch):
    def without_scale(*args, scaling, **kwargs):
        return attention.sdpa_attention_forward(*args, scaling=1.0, **kwargs)

    monkeypatch.setitem(attention.AttentionInterface._global_mapping, attention.IMPLEMENTATION, without_scale)
    with pytest.raises(UserError, match="LlamaForCausalLM"):
        selfcheck.check_model(model, tiny_models.prompts((6, 5)))


def test_an_architecture_that_the_sweep_does_not_fit_takes_the_plain_path(tmp_path, caplog):
    model = models.load(tiny_models.save("gpt2", tmp_path / "tiny"))[0]
    prompts = tiny_models.prompts((6, 5))
    scorer = scoring.Scorer(model, prompts)
    assert scorer.check.sweep_gap is None and not scorer.check.sweep_is_exact and "plain passes are used" in caplog.text
    [readout] = list(scorer.readouts([Head(0, 1)], UA))
    torch.testing.assert_close(readout.log_probs[0], plain_readout(model, prompts, [(Head(0, 1), UA)])[1])
    assert (scorer.ships(readout, ["a", "b"])["kl_nats"] > 0).all()


def test_a_sweep_that_is_off_is_not_used(model, monkeypatch, caplog):
    monkeypatch.setattr(
        selfcheck.Sweep,
        "run",
        lambda self, heads, ablation: iter(
            [
                Readout([head], *(torch.full((1, 2, n), -4.0, device=self.model.device) for n in (32, 77)))
                for head in heads
            ]
        ),
    )
    assert not selfcheck.check_model(model, tiny_models.prompts((6, 5))).sweep_is_exact
    assert "off by" in caplog.text


def test_a_model_that_sees_later_tokens_is_refused(model, monkeypatch):
    monkeypatch.setattr(selfcheck, "_sees_later_tokens", lambda *_: True)
    with pytest.raises(UserError, match="not causal"):
        selfcheck.check_model(model, tiny_models.prompts((6, 5)))


def test_later_tokens_are_noticed(model):
    assert not selfcheck._sees_later_tokens(model, tiny_models.prompts((6,))[0], 1e-3)
    original = model.forward

    def leaky(input_ids, **kwargs):
        output = original(input_ids=input_ids, **kwargs)
        output.logits[:, :-1, 0] += input_ids[:, -1:].float()
        return output

    model.forward = leaky
    try:
        with torch.inference_mode():
            assert selfcheck._sees_later_tokens(model, [5, 6, 7], 1e-3)
    finally:
        del model.forward


def test_predictions_are_compared_even_if_none_is_likely():
    flat = torch.full((2, 5000), 1 / 5000).log()
    assert selfcheck.largest_gap(flat, flat) == 0
    other = flat.clone()
    other[1, 7] += 0.5  # now the likeliest of its row
    assert selfcheck.largest_gap(flat, other) == pytest.approx(0.5)
