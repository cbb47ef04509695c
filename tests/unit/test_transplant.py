"""Weights of one model in another: the right ones, all of them, and partners that do not fit are refused."""

import json

import pytest
import torch

import tiny_models
from safety_heads import models, transplant
from safety_heads.errors import UserError

KINDS = ("llama-gqa", "gemma2-caps", "phi3-fused", "neox-parallel", "mixtral-experts", "qwen3-moe")


@pytest.fixture(params=KINDS)
def pair(request, tmp_path):
    folders = [tiny_models.save(request.param, tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    transplant.check_partners(*folders)
    return [models.load(folder)[0] for folder in folders]


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("part", ["attention", "mlp"])
def test_one_part_comes_from_the_donor_and_the_rest_stays(pair, part):
    model, donor = pair
    before = weights(model)
    n_parameters = transplant.transplant(model, donor, part)
    changed = {name for name, value in weights(model).items() if not torch.equal(value, before[name])}
    assert changed and all(torch.equal(model.state_dict()[name], donor.state_dict()[name]) for name in changed)
    assert all(("att" in name) == (part == "attention") for name in changed)
    assert sum(before[name].numel() for name in changed) <= n_parameters < sum(p.numel() for p in model.parameters())


def test_attention_and_mlp_are_all_matrices_of_the_blocks(pair):
    model, donor = pair
    for part in ("attention", "mlp"):
        transplant.transplant(model, donor, part)
    for name, value in model.get_decoder().layers.state_dict().items():
        assert value.ndim < 2 or torch.equal(value, donor.get_decoder().layers.state_dict()[name]), name


def test_all_makes_the_donor(pair):
    model, donor = pair
    ids = torch.tensor([[3, 5, 7, 9]], device=model.device)
    transplant.transplant(model, donor, "all")
    assert torch.equal(model(ids).logits, donor(ids).logits)


def test_partners_of_another_kind_shape_or_vocabulary_are_refused(tmp_path):
    ours = tiny_models.save("llama-gqa", tmp_path / "ours")
    with pytest.raises(UserError, match="'qwen2' model"):
        transplant.check_partners(ours, tiny_models.save("qwen2-biases", tmp_path / "qwen"))
    with pytest.raises(UserError, match="n_kv_heads 4"):
        transplant.check_partners(ours, tiny_models.save("llama-mha", tmp_path / "mha"))
    other = tiny_models.save("llama-gqa", tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UserError, match="another vocabulary"):
        transplant.check_partners(ours, other)
