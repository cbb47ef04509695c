"""Pruning: the share that is asked, SparseGPT's reconstruction, and a model that is as it was afterwards."""

import pytest
import torch

import tiny_models
from safety_heads import comparators
from safety_heads.comparators import pruned, sparsegpt, wanda
from safety_heads.errors import UserError

N_IN, N_OUT = 200, 48  # more columns than SparseGPT treats at once


@pytest.fixture(scope="module")
def layer():
    """A random weight, and correlated inputs of unequal scale `[tokens, N_IN]`."""
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(1000, N_IN, generator=generator) @ torch.randn(N_IN, N_IN, generator=generator)
    scales = torch.rand(N_IN, generator=generator) * 3 + 0.1
    return torch.randn(N_OUT, N_IN, generator=generator), mixed * scales


def error(weight, other, inputs) -> float:
    return (inputs @ (weight - other).T).norm().item()


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.8])
def test_wanda_drops_exactly_its_share_of_every_row_and_changes_nothing_else(layer, sparsity):
    weight, inputs = layer
    found = wanda(weight, inputs.T @ inputs, sparsity)
    assert ((found == 0).sum(1) == round(sparsity * N_IN)).all()
    assert torch.equal(found[found != 0], weight[found != 0])
    scores = weight.abs() * inputs.norm(dim=0)  # |W_ij| * ||X_j||_2, by its definition
    for row in range(N_OUT):
        assert scores[row][found[row] != 0].min() >= scores[row][found[row] == 0].max()


def test_sparsegpt_drops_its_share_and_reconstructs_best(layer):
    weight, inputs = layer
    gram = inputs.T @ inputs
    by_size = torch.where(weight.abs() >= weight.abs().median(dim=1, keepdim=True).values, weight, 0.0)
    ours = sparsegpt(weight, gram, 0.5)
    assert (ours == 0).sum() == N_IN * N_OUT / 2
    assert error(weight, ours, inputs) < error(weight, wanda(weight, gram, 0.5), inputs)
    assert error(weight, wanda(weight, gram, 0.5), inputs) < error(weight, by_size, inputs)


def test_sparsegpt_moves_the_last_columns_to_the_least_squares_optimum():
    """With one column dropped from all rows, the others take the optimum of the damped least squares problem."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(300, 6, generator=generator, dtype=torch.float64)
    inputs[:, 0] = inputs[:, 1] + 0.3 * inputs[:, 0]
    weight = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    weight[:, 0] = 1e-6 * weight[:, 0]
    weight[:, 0] += 0.01
    weight[:, 1:] += 5 * weight[:, 1:].sign()  # so that the first column is what goes
    found = sparsegpt(weight, inputs.T @ inputs, 1 / 6)
    assert (found == 0).nonzero()[:, 1].tolist() == [0, 0, 0, 0]
    hessian = inputs.T @ inputs
    hessian += comparators.DAMPING * hessian.diagonal().mean() * torch.eye(6, dtype=torch.float64)
    kept = weight[:, 1:] + weight[:, :1] * torch.linalg.solve(hessian[1:, 1:], hessian[1:, :1]).T
    assert torch.allclose(found[:, 1:], kept)


def test_inputs_that_never_occur_do_no_harm():
    weight, inputs = torch.randn(3, 8), torch.randn(50, 8)
    inputs[:, 2] = 0
    found = sparsegpt(weight, inputs.T @ inputs, 0.5)
    assert found.isfinite().all() and (found[:, 2] == 0).all()


TEXTS = tiny_models.prompts((40, 50, 60))


@pytest.mark.parametrize("kind", ["llama-gqa", "gemma3-mixed", "neox-parallel"])
@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_a_model_is_pruned_within_the_block_only(kind, method):
    model = tiny_models.build(kind)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    linears = [module for module in model.get_decoder().layers.modules() if isinstance(module, torch.nn.Linear)]
    with pruned(model, TEXTS, method, 0.5):
        shares = [float((linear.weight == 0).float().mean()) for linear in linears]
        assert shares == pytest.approx([0.5] * len(linears), abs=0.02)
        assert torch.equal(model.get_input_embeddings().weight, before[_name(model)])
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def _name(model) -> str:
    embedding = model.get_input_embeddings().weight
    return next(name for name, weight in model.named_parameters() if weight is embedding)


def test_blocks_are_calibrated_on_the_pruned_blocks_below():
    """The last block's layers see what the pruned model gives them, not the unpruned one."""
    model = tiny_models.build("llama-gqa")
    seen = []
    last = model.get_decoder().layers[-1].self_attn.q_proj
    with pruned(model, TEXTS[:1], "wanda", 0.5):
        kept = last.weight.data.clone()
        hook = last.register_forward_pre_hook(lambda _layer, args: seen.append(args[0][0]))
        with torch.no_grad():
            model(torch.tensor(TEXTS[:1]))
        hook.remove()
    assert torch.equal(kept, wanda(last.weight.data, seen[0].T @ seen[0], 0.5))


def test_a_model_without_linear_layers_and_no_texts_are_refused():
    with (
        pytest.raises(UserError, match="no blocks with linear layers"),
        pruned(tiny_models.build("gpt2"), TEXTS, "wanda", 0.5),
    ):
        pass
    with pytest.raises(UserError, match="needs texts"), pruned(tiny_models.build("llama-gqa"), [], "wanda", 0.5):
        pass
    with pytest.raises(UserError, match="unknown"), pruned(tiny_models.build("llama-gqa"), TEXTS, "magnitude", 0.5):
        pass
