"""Batched decoding with an ablation per row, against transformers' own generation, one prompt at a time."""

import copy

import pytest
import torch

import tiny_models
from safety_heads import models
from safety_heads.decoding import Decoding, Request, luck, pick
from safety_heads.errors import UserError
from safety_heads.generation import generate
from safety_heads.heads import Ablation, Head

GREEDY, TOP5 = Decoding("greedy", 12), Decoding("top5", 9, top_k=5)
HEAD, SC = Head(1, 2), Ablation("sc", 0.1)
PREFIX = [9, 10, 11]


@pytest.fixture(scope="module", params=["llama-gqa", "mistral-window", "gemma3-mixed", "neox-parallel"])
def loaded(request, tmp_path_factory):
    return models.load(tiny_models.save(request.param, tmp_path_factory.mktemp("model") / "tiny"))


def requests(*interventions, lengths=(5, 9, 6)):
    prompts = tiny_models.prompts(lengths, prefix=PREFIX)
    return [Request(f"q{i}", p, heads) for heads in interventions for i, p in enumerate(prompts)]


def reference(model, tokenizer, prompt):
    """transformers' greedy answer to one prompt, without padding."""
    ids = torch.tensor([prompt], device=model.device)
    output = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    return tokenizer.decode(output[0, len(prompt) :], skip_special_tokens=True).strip()


def output_projection(model):
    """W_o of layer 1, which GPT-NeoX calls dense."""
    layer = model.get_decoder().layers[HEAD.layer]
    return layer.self_attn.o_proj if hasattr(layer, "self_attn") else layer.attention.dense


def test_greedy_answers_equal_transformers(loaded):
    model, tokenizer = loaded
    [answers] = generate(model, tokenizer, requests(()), [GREEDY], seed=0)
    assert [a.text for a in answers] == [reference(model, tokenizer, r.prompt) for r in requests(())]


def test_an_ablated_rows_answer_is_that_of_a_model_with_edited_weights(loaded):
    model, tokenizer = loaded
    edited = copy.deepcopy(model)
    with torch.no_grad():
        output_projection(edited).weight[:, 16:24].mul_(0.1)
    mixed = requests((), ((HEAD, SC),))
    [answers] = generate(model, tokenizer, mixed, [GREEDY], seed=0)
    expected = [reference(m, tokenizer, r.prompt) for m, r in zip([model] * 3 + [edited] * 3, mixed, strict=True)]
    assert [a.text for a in answers] == expected
    assert expected[:3] != expected[3:]


def test_drafts_change_no_answer(loaded):
    """Interventions from none to every layer, and queries of which several share a prompt's beginning."""
    model, tokenizer = loaded
    groups = [((HEAD, SC),), ((Head(2, 0), Ablation("ua", 1e-5)), (Head(0, 3), SC)), ((Head(2, 1), SC),), ()]
    asked = requests(*groups, lengths=(5, 9, 6, 9, 12))
    drafted, decoded = (
        generate(model, tokenizer, asked, [GREEDY, TOP5], seed=1, rows_per_batch=7, with_drafts=drafts)
        for drafts in (True, False)
    )
    assert drafted == decoded
    texts = [[answer.text for answer in drafted[0][i : i + 5]] for i in range(0, len(asked), 5)]
    assert texts[0] != texts[3] and texts[1] != texts[3]  # some depart from their drafts


@pytest.mark.parametrize("rows_per_batch", [1, 2, 5, 96])
def test_answers_do_not_depend_on_the_batch_or_on_the_other_decodings(loaded, rows_per_batch):
    model, tokenizer = loaded
    mixed = requests((), ((HEAD, SC),))
    both = generate(model, tokenizer, mixed, [GREEDY, TOP5], seed=3, rows_per_batch=rows_per_batch)
    alone = [
        generate(model, tokenizer, [request], [decoding], seed=3)[0][0]
        for decoding in (GREEDY, TOP5)
        for request in mixed
    ]
    assert [a for of_decoding in both for a in of_decoding] == alone


def test_the_seed_and_only_the_seed_changes_sampled_answers(loaded):
    model, tokenizer = loaded
    first, again, other = (generate(model, tokenizer, requests(()), [TOP5], seed)[0] for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_an_answer_ends_at_the_end_token_or_at_its_length(loaded):
    model, tokenizer = loaded
    with torch.no_grad():
        sure = copy.deepcopy(model)
        head = sure.get_output_embeddings().weight
        head[2] = 100 * head[2].sign()
    answers = generate(sure, tokenizer, requests((), lengths=(5,) * 6), [GREEDY, TOP5], seed=0)
    for decoding, of_decoding in zip((GREEDY, TOP5), answers, strict=True):
        for answer in of_decoding:
            assert (answer.stop_reason == "length") == (answer.n_tokens == decoding.max_new_tokens)
    [answers] = generate(model, tokenizer, requests(()), [Decoding("one", 1)], seed=0)
    assert all(answer.n_tokens <= 1 for answer in answers)


def test_sampling_follows_the_top_k_probabilities():
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().repeat(20_000, 1)
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    counts = pick(logits, uniform, Decoding("top2", 1, top_k=2)).bincount(minlength=4) / 20_000
    torch.testing.assert_close(counts, torch.tensor([0, 0, 3 / 7, 4 / 7]), rtol=0, atol=0.015)


def test_luck_is_a_querys_own():
    assert (luck(0, "a", 5) == luck(0, "a", 5)).all()
    assert (luck(0, "a", 5) != luck(0, "b", 5)).all()


@pytest.mark.parametrize(
    "wrong", [{"max_new_tokens": 0}, {"max_new_tokens": 5, "top_k": 0}, {"max_new_tokens": 5, "temperature": 0}]
)
def test_impossible_decodings_are_refused(wrong):
    with pytest.raises(UserError, match=r"decodings\.mine"):
        Decoding("mine", **wrong)
