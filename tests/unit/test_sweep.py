"""The sweep gives what a plain forward pass per head gives, for every kind of attention."""

import gc
from pathlib import Path

import accelerate
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny_models
from safety_heads import models
from safety_heads.decoding import left_padded
from safety_heads.errors import UserError
from safety_heads.heads import Ablation, Head
from safety_heads.prompts import LENGTH_SLACK, length_groups, shared_prefix_length
from safety_heads.sweep import Sweep, plain_readout

HEADS = [Head(layer, head) for layer in range(3) for head in range(4)]
PREFIX = [5, 6, 7, 8]


@pytest.fixture(scope="module", params=tiny_models.MODERN)
def folder(request, tmp_path_factory):
    return tiny_models.save(request.param, tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def model(folder):
    return models.load(folder)[0]


@pytest.mark.parametrize("group", [(), ((Head(1, 1), Ablation("ua", 1e-5)), (Head(2, 3), Ablation("sc", 1e-5)))])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-9)])
@pytest.mark.parametrize("ablation", [Ablation("ua", 1e-5), Ablation("sc", 0.1), Ablation("mean", 0.0)])
def test_sweep_equals_a_plain_pass_per_head(folder, dtype, tolerance, ablation, group):
    model = models.load(folder, dtype)[0]
    prompts = tiny_models.prompts((5, 12, 9, 6), prefix=PREFIX)
    seen = []
    for readout in Sweep(model, prompts, group, tokens_per_batch=60).run(HEADS, ablation):
        for head, hidden, log_probs in zip(readout.heads, readout.hidden, readout.log_probs, strict=True):
            expected = plain_readout(model, prompts, [*group, (head, ablation)])
            torch.testing.assert_close(hidden, expected[0], rtol=tolerance, atol=tolerance)
            torch.testing.assert_close(log_probs, expected[1], rtol=tolerance, atol=tolerance)
            seen.append(head)
    assert seen == HEADS


def test_the_order_of_the_prompts_is_irrelevant(model):
    prompts = tiny_models.prompts((5, 12, 9, 6), prefix=PREFIX)
    [one] = list(Sweep(model, prompts).run([Head(1, 1)], Ablation("ua", 1e-5)))
    [other] = list(Sweep(model, prompts[::-1]).run([Head(1, 1)], Ablation("ua", 1e-5)))
    torch.testing.assert_close(one.log_probs, other.log_probs.flip(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tokens_per_batch", [1, 10_000])
def test_results_do_not_depend_on_the_batch(model, tokens_per_batch):
    prompts = tiny_models.prompts((4, 7, 7), prefix=PREFIX)
    ablation = Ablation("ua", 1e-5)
    one = torch.cat([readout.log_probs for readout in Sweep(model, prompts).run(HEADS, ablation)])
    sweep = Sweep(model, prompts, tokens_per_batch=tokens_per_batch)
    other = torch.cat([readout.log_probs for readout in sweep.run(HEADS, ablation)])
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_block_inputs_on_disk_change_nothing(model):
    prompts, ablation = tiny_models.prompts((4, 7, 7), prefix=PREFIX), Ablation("ua", 1e-5)
    sweep = Sweep(model, prompts, cache_gib=1e-6)  # a kilobyte
    mapped = list(Path(sweep.trunk.store.folder.name).iterdir())
    assert len(mapped) >= 3
    for one, other in zip(Sweep(model, prompts).run(HEADS, ablation), sweep.run(HEADS, ablation), strict=True):
        assert torch.equal(one.log_probs, other.log_probs)
    folder = Path(sweep.trunk.store.folder.name)
    del sweep
    gc.collect()
    assert not folder.exists()


def test_batches_are_halved_where_memory_runs_out(tmp_path, monkeypatch, caplog):
    model = models.load(tiny_models.save("llama-gqa", tmp_path / "tiny"))[0]
    ablate, sizes = Sweep._ablate, []

    def small_memory(self, layer, heads, ablation):
        sizes.append(len(heads))
        if len(heads) > fits:
            raise torch.OutOfMemoryError
        return ablate(self, layer, heads, ablation)

    monkeypatch.setattr(Sweep, "_ablate", small_memory)
    fits, prompts = 1, tiny_models.prompts((4, 7))
    found = [head for readout in Sweep(model, prompts).run(HEADS, Ablation("ua", 1e-5)) for head in readout.heads]
    assert found == HEADS and sizes[:4] == [4, 2, 1, 1] and "1 heads at a time" in caplog.text
    fits = 0
    with pytest.raises(UserError, match="one head does not fit"):
        list(Sweep(model, prompts).run(HEADS, Ablation("ua", 1e-5)))


def test_a_model_spread_by_accelerate_gives_the_same(tmp_path):
    """One block is kept on disk and fetched for each call, as blocks of another device would be."""
    folder = tiny_models.save("llama-gqa", tmp_path / "tiny")
    spread = models.load(folder, device="cpu")[0]
    places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    places |= {f"model.layers.{layer}": "disk" if layer == 1 else "cpu" for layer in range(3)}
    accelerate.dispatch_model(spread, places, main_device="cpu", offload_dir=tmp_path / "offloaded")
    assert spread.model.layers[1].mlp.up_proj.weight.is_meta
    prompts, ablation = tiny_models.prompts((5, 12, 9), prefix=PREFIX), Ablation("ua", 1e-5)
    for one, other in zip(
        Sweep(models.load(folder, device="cpu")[0], prompts).run(HEADS, ablation),
        Sweep(spread, prompts).run(HEADS, ablation),
        strict=True,
    ):
        torch.testing.assert_close(one.log_probs, other.log_probs, rtol=1e-5, atol=1e-5)


def test_one_prompt_and_prompts_without_a_shared_prefix(model):
    for prompts in ([[5, 6, 7]], [[5, 6, 7], [9, 6, 7, 8]]):
        [readout] = list(Sweep(model, prompts).run([Head(2, 0)], Ablation("sc", 0.1)))
        expected = plain_readout(model, prompts, [(Head(2, 0), Ablation("sc", 0.1))])[1]
        torch.testing.assert_close(readout.log_probs[0], expected, rtol=1e-4, atol=1e-5)


def test_padding_on_either_side_gives_the_same_scores(tmp_path):
    model = models.load(tiny_models.save("llama-gqa", tmp_path / "tiny"))[0]
    prompts = tiny_models.prompts((5, 9, 6))
    _, right = plain_readout(model, prompts)
    ids, mask = left_padded(prompts, model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        left = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[:, -1].log_softmax(-1)
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 500))
def test_length_groups_cover_all_prompts_and_waste_little(lengths, most):
    groups = length_groups(lengths, most=most)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        of_group = [lengths[i] for i in group]
        assert max(of_group) <= LENGTH_SLACK * min(of_group)
        assert len(group) == 1 or len(group) * max(of_group) <= most


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=5))
def test_the_shared_prefix_is_the_longest_that_leaves_each_prompt_a_token(prompts):
    n = shared_prefix_length(prompts)
    assert all(len(prompt) > n and prompt[:n] == prompts[0][:n] for prompt in prompts)
    longer = all(len(prompt) > n + 1 for prompt in prompts) and len({prompt[n] for prompt in prompts}) == 1
    assert not longer
