"""Ablation against oracles that know nothing of it: edited weights, and hand-made attention."""

import copy

import pytest
import torch

import tiny_models
from safety_heads import models
from safety_heads.attention import ablated
from safety_heads.errors import UserError
from safety_heads.heads import Ablation, Head
from safety_heads.sweep import plain_readout

HEAD = Head(1, 2)
PROMPTS = tiny_models.prompts((6, 8))


@pytest.fixture(scope="module", params=["llama-mha", "llama-gqa"])
def folder(request, tmp_path_factory):
    return tiny_models.save(request.param, tmp_path_factory.mktemp("model") / request.param)


@pytest.fixture(scope="module")
def model(folder):
    return models.load(folder)[0]


def edited(model, change):
    """A copy of the model whose layer `HEAD.layer` was changed; no run-time ablation is involved."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        change(other.model.layers[HEAD.layer].self_attn)
    return plain_readout(other, PROMPTS)


def rows(head: int, d_head: int = 8) -> slice:
    return slice(head * d_head, (head + 1) * d_head)


def test_ua_equals_scaling_the_heads_rows_of_w_q(model):
    """Exact only where nothing stands between W_q and the logits but a rotation (no q norm)."""
    found = plain_readout(model, PROMPTS, [(HEAD, Ablation("ua", 0.25))])
    expected = edited(model, lambda attention: attention.q_proj.weight[rows(HEAD.head)].mul_(0.25))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("ablation", [Ablation("sc", 0.25), Ablation("zero", 0.0)])
def test_sc_equals_scaling_the_heads_columns_of_w_o(model, ablation):
    found = plain_readout(model, PROMPTS, [(HEAD, ablation)])
    expected = edited(model, lambda attention: attention.o_proj.weight[:, rows(HEAD.head)].mul_(ablation.epsilon))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def heads_output(model, ids, interventions):
    """z of every head in layer `HEAD.layer`, `[rows, pos, n_heads, d_head]`, caught before W_o."""
    caught = []
    hook = model.model.layers[HEAD.layer].self_attn.o_proj.register_forward_pre_hook(
        lambda _module, args: caught.append(args[0].detach())
    )
    with ablated(model, interventions), torch.inference_mode():
        model(input_ids=ids)
    hook.remove()
    return caught[0].unflatten(-1, (4, 8))


def test_ua_is_softmax_of_zero_logits_under_the_causal_mask(model):
    """With undifferentiated attention z is the running mean of the head's values (paper, section 3.1)."""
    ids = torch.tensor(PROMPTS[:1], device=model.device)
    values = []
    attention = model.model.layers[HEAD.layer].self_attn
    hook = attention.v_proj.register_forward_hook(lambda _module, _args, output: values.append(output.detach()))
    z = heads_output(model, ids, [[(HEAD, Ablation("ua", 1e-10))]])[0, :, HEAD.head]
    hook.remove()
    group = HEAD.head // attention.num_key_value_groups
    own = values[0][0].unflatten(-1, (-1, 8))[:, group]
    running_mean = own.cumsum(0) / torch.arange(1, len(own) + 1, device=own.device)[:, None]
    torch.testing.assert_close(z, running_mean)


@pytest.mark.parametrize("kind", ["ua", "sc"])
def test_only_the_ablated_head_changes_even_if_it_shares_its_keys_and_values(model, kind):
    ids = torch.tensor(PROMPTS[:1], device=model.device)
    change = heads_output(model, ids, [[(HEAD, Ablation(kind, 1e-5))]]) - heads_output(model, ids, [[]])
    moved = change.abs().amax(dim=(0, 1, 3))
    assert moved[HEAD.head] > 1e-3
    assert moved[torch.arange(4) != HEAD.head].max() == 0


def test_mean_puts_the_layers_mean_in_the_heads_place(model):
    ids = torch.tensor(PROMPTS[:1], device=model.device)
    before, after = (heads_output(model, ids, [rows]) for rows in ([], [(HEAD, Ablation("mean", 0.0))]))
    torch.testing.assert_close(after[:, :, HEAD.head], before.mean(2))


def test_every_row_has_its_own_ablation(model):
    ids = torch.tensor([PROMPTS[0]] * 3, device=model.device)
    interventions = [[], [(HEAD, Ablation("ua", 1e-5))], [(Head(0, 0), Ablation("sc", 1e-5))]]
    with ablated(model, interventions), torch.inference_mode():
        together = model(input_ids=ids).logits
    for row, intervention in enumerate(interventions):
        with ablated(model, [intervention]), torch.inference_mode():
            torch.testing.assert_close(model(input_ids=ids[:1]).logits[0], together[row])


def test_nothing_stays_ablated_after_the_block_even_after_an_error(model):
    before = plain_readout(model, PROMPTS)[1]
    with pytest.raises(ZeroDivisionError), ablated(model, [[(HEAD, Ablation("zero", 0.0))]]):
        _ = 1 / 0
    torch.testing.assert_close(plain_readout(model, PROMPTS)[1], before, rtol=0, atol=0)


def test_a_later_token_never_changes_an_earlier_prediction(model):
    for intervention in ([], [(HEAD, Ablation("ua", 1e-5))], [(HEAD, Ablation("sc", 0.5))]):
        with ablated(model, [intervention]), torch.inference_mode():
            short = model(input_ids=torch.tensor([PROMPTS[1][:5]], device=model.device)).logits
            long = model(input_ids=torch.tensor([PROMPTS[1]], device=model.device)).logits[:, :5]
        torch.testing.assert_close(short, long)


@pytest.mark.parametrize("epsilon", [0.0, -0.1, 1.01])
@pytest.mark.parametrize("kind", ["ua", "sc"])
def test_epsilon_outside_its_range_is_refused(kind, epsilon):
    with pytest.raises(UserError, match="epsilon"):
        Ablation(kind, epsilon)


def test_unknown_kinds_and_heads_are_refused(model):
    with pytest.raises(UserError, match="'median' is unknown"):
        Ablation("median", 0.5)
    with pytest.raises(UserError, match="0-4 does not exist"), ablated(model, [[(Head(0, 4), Ablation("ua", 0.5))]]):
        pass
    with (
        pytest.raises(UserError, match="layer 3 does not exist"),
        ablated(model, [[(Head(3, 0), Ablation("ua", 0.5))]]),
    ):
        pass


def test_a_model_loaded_otherwise_is_refused():
    with (
        pytest.raises(UserError, match="not loaded through"),
        ablated(tiny_models.build("llama-mha"), [[(HEAD, Ablation("ua", 0.5))]]),
    ):
        pass
