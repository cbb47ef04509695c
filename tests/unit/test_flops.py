"""The yardstick against torch's own counter of operations."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import tiny_models
from safety_heads import flops, models
from safety_heads.heads import Ablation, Head
from safety_heads.sweep import Sweep

HEADS = [Head(layer, head) for layer in range(3) for head in range(4)]


@pytest.fixture(scope="module", params=["llama-mha", "llama-gqa", "qwen3-qk-norm", "phi3-fused"])
def folder(request, tmp_path_factory):
    return tiny_models.save(request.param, tmp_path_factory.mktemp("model") / "tiny")


def counted(run) -> int:
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def test_a_forward_pass_costs_what_the_formula_says(folder):
    """The counter knows attention in plain products only, and as full squares; the formula counts causal pairs once."""
    model, shape, length = models.load(folder)[0], models.describe(folder), 12
    model.set_attn_implementation("eager")
    ids = torch.randint(4, 70, (1, length), device=model.device)
    found = counted(lambda: model(input_ids=ids, logits_to_keep=1))
    squares = shape.n_layers * shape.n_heads * flops.pair_flops(shape) * (length**2 - length * (length + 1) / 2)
    assert found == pytest.approx(flops.forward_flops(shape, length) + squares, rel=1e-9)


def test_the_sweep_does_little_more_than_it_must(folder):
    model, shape = models.load(folder)[0], models.describe(folder)
    prompts = tiny_models.prompts((8, 8, 8), prefix=[5, 6, 7, 8])
    sweep = Sweep(model, prompts)
    found = counted(lambda: list(sweep.run(HEADS, Ablation("ua", 1e-5))))
    least = flops.sweep_flops(shape, [len(prompt) for prompt in prompts], 4, HEADS)
    plain = len(HEADS) * sum(flops.forward_flops(shape, len(prompt)) for prompt in prompts)
    assert least < found < 0.8 * plain
