"""lm-eval's tasks on documents of ours, with heads ablated; refusals, perplexity, and the table of changes."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from lm_eval.models.huggingface import HFLM

import tiny_models
from safety_heads import align, helpfulness, helpfulness_tasks, interventions, models, sources, tables
from safety_heads.attention import ablated
from safety_heads.decoding import Decoding
from safety_heads.errors import UserError
from safety_heads.heads import Ablation, Head
from safety_heads.helpfulness_figure import helpfulness as draw_figure
from safety_heads.helpfulness_figure import treatment_name
from safety_heads.helpfulness_table import helpfulness_table
from safety_heads.lessons import Example
from safety_heads.results import primary
from safety_heads.scorecard import claims
from synthetic_results import results

CHOICES = {"text": ["warm", "cold and wet", "dry", "sweet"], "label": ["A", "B", "C", "D"]}
DOCUMENTS = {
    "boolq": {"question": "is water wet", "passage": "Water is wet.", "answer": True},
    "rte": {"sentence1": "It rains.", "sentence2": "It is wet.", "label": 0, "idx": 0},
    "winogrande": {"sentence": "Ann met Eve and _ smiled.", "option1": "Ann", "option2": "Eve", "answer": "2"},
    "arc_challenge": {"id": "a", "question": "What is ice?", "choices": CHOICES, "answerKey": "B"},
    "openbookqa": {"id": "b", "question_stem": "Ice is", "choices": CHOICES, "answerKey": "B"},
}
HEADS = ((Head(1, 2), Ablation("ua", 1e-5)), (Head(2, 0), Ablation("mean", 0.0)))


def split(task: str, tmp_path, n: int = 12) -> helpfulness_tasks.Split:
    """n documents of a task, read back from an Arrow stream as the wheel holds them."""
    texts = [name for name, value in DOCUMENTS[task].items() if isinstance(value, str) and len(value) > 3]
    rows = [{**DOCUMENTS[task], texts[0]: f"{number}. {DOCUMENTS[task][texts[0]]}"} for number in range(n)]
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(tmp_path / f"{task}.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    fetched = sources.Fetched("own", "path", tmp_path, None, {})
    return helpfulness_tasks.read_local(fetched, f"{task}.arrow", task)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arrow")
    return pd.concat([helpfulness_tasks.draw(task, split(task, folder), 5, 3, seed=0) for task in DOCUMENTS])


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    return models.load(tiny_models.save("llama-gqa", tmp_path_factory.mktemp("models") / "tiny"))


def test_examples_are_drawn_once_and_the_others_calibrate(examples):
    tables.check_rows(examples, tables.TASK_EXAMPLES, "here")
    assert examples.groupby(["task", "role"]).size().unstack().eq({"calibration": 3, "evaluated": 5}).all(axis=None)
    assert not examples.duplicated(["task", "item"]).any()
    assert len(helpfulness_tasks.contexts(examples)) == 3 * len(DOCUMENTS)


def test_too_few_examples_are_refused_by_name(tmp_path):
    documents = split("rte", tmp_path)
    with pytest.raises(UserError, match="rte: 12 of 12 examples are evaluated, so that 0 are left"):
        helpfulness_tasks.draw("rte", documents, None, 3, seed=0)
    assert len(helpfulness_tasks.draw("rte", documents, None, 0, seed=0)) == 12
    with_training = helpfulness_tasks.Split(documents.evaluation, documents.evaluation)
    assert len(helpfulness_tasks.draw("rte", with_training, None, 3, seed=0)) == 15


def test_a_document_that_the_stock_task_cannot_read_is_refused():
    row = {"task": "winogrande", "role": "evaluated", "item": 0, "document": json.dumps({"answer": "maybe"})}
    with pytest.raises(UserError, match="lm-eval cannot read the documents of winogrande"):
        helpfulness_tasks.build(pd.DataFrame([row]))


def by_hand(subject, task, document, heads) -> tuple[list[float], int]:
    """The log-likelihood of every choice after its context, one plain pass each, and the right choice."""
    model, tokenizer = subject
    text, choices, gold = task.doc_to_text(document), task.doc_to_choice(document), task.doc_to_target(document)
    pairs = [(text, f" {choice}") for choice in choices]
    if isinstance(text, int):  # WinoGrande
        pairs, gold = [(choice, f" {gold}") for choice in choices], text
    found = []
    for context, continuation in pairs:
        prompt = tokenizer(context).input_ids
        answer = tokenizer(context + continuation).input_ids[len(prompt) :]
        with ablated(model, [heads]), torch.no_grad():
            scores = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
        found.append(sum(scores[place, token].item() for place, token in zip(places, answer, strict=True)))
    return found, gold


@pytest.mark.parametrize("heads", [(), HEADS])
def test_lm_eval_sees_the_ablated_model_whatever_its_batches(subject, examples, heads, monkeypatch):
    """Log-likelihoods and accuracies equal those of plain passes with `ablated`, in batches of several rows."""
    tasks = helpfulness_tasks.build(examples)
    wrapped = HFLM(pretrained=subject[0], tokenizer=subject[1], backend="causal", batch_size=4)
    given = {}
    original = HFLM.loglikelihood

    def listen(self, requests, **options):
        answers = original(self, requests, **options)
        given.update({request.args: answer[0] for request, answer in zip(requests, answers, strict=True)})
        return answers

    monkeypatch.setattr(HFLM, "loglikelihood", listen)
    with ablated(subject[0], [heads]):
        outcomes = helpfulness.accuracies(wrapped, tasks).set_index(["task", "item", "metric"])["value"]
    n_checked = 0
    for name, task in tasks.items():
        for document in task.eval_docs:
            scores, gold = by_hand(subject, task, document, heads)
            seen = [value for (context, _), value in given.items() if _belongs(task, document, context)]
            assert seen == pytest.approx(scores, abs=1e-3)
            assert outcomes[name, str(document["item"]), "acc"] == float(np.argmax(scores) == gold)
            n_checked += len(seen)
    assert n_checked == len(given) == 5 * (2 + 2 + 2 + 4 + 4)
    assert {"acc", "acc_norm"} == set(outcomes["arc_challenge"].index.get_level_values("metric"))


def _belongs(task, document, context) -> bool:
    text = task.doc_to_text(document)
    return context in (task.doc_to_choice(document) if isinstance(text, int) else [text])


def test_treatments_are_interventions_the_same_head_by_mean_and_pruned_models():
    [best] = [(Head(1, 2), Ablation("ua", 1e-5))]
    row = interventions._rows("ships-ua-1", "ships", [best[0]], best[1])
    own = interventions._rows("query-ua-1", "query", [best[0]], best[1], query_id="q")
    plan = pd.concat([interventions.unablated(), row, own], ignore_index=True)
    found = helpfulness.treatments(plan, ["none", "ships-ua-1", "mean+ships-ua-1"], {"wanda": 0.5})
    assert [one.name for one in found] == ["none", "ships-ua-1", "mean+ships-ua-1", "wanda-0.5"]
    assert [one.method for one in found] == ["none", "ua", "mean", "wanda"]
    assert found[1].heads == (best,) and found[2].heads == ((best[0], Ablation("mean", 0.0)),) and not found[3].heads
    for wrong in ("ships-sc-1", "sure+ships-ua-1", "query-ua-1"):
        with pytest.raises(UserError, match=f"helpfulness.interventions: '{wrong.replace('+', '.')}'"):
            helpfulness.treatments(plan, [wrong], {})


def test_perplexity_is_the_same_as_the_alignment_cards(subject):
    prompt, answer = tiny_models.prompts((9, 6))
    nats = helpfulness.nats_per_token(subject[0], prompt, answer)
    assert np.exp(nats) == pytest.approx(
        align.perplexity(subject[0], [Example(tuple(prompt), tuple(answer))]), rel=1e-4
    )
    assert np.isnan(helpfulness.nats_per_token(subject[0], prompt, []))


def test_refusals_and_own_answers_of_benign_queries(subject):
    queries = pd.DataFrame({"dataset": "good", "query_id": ["a", "b"], "text": ["benign query 1", "benign query 2"]})
    prompts = tiny_models.prompts((6, 7))
    benign = helpfulness.Benign(queries, prompts, "keyword-paper", Decoding("greedy", 5), 0)
    own = benign.answers(subject, helpfulness.Treatment("none", "none"), False)
    ablation = benign.answers(subject, helpfulness.Treatment("x", "ua", HEADS), False)
    assert len(own) == 2 and own != ablation
    with ablated(subject[0], [HEADS]):
        changed = benign.measured(subject, ["I'm sorry, but I cannot help.", "Water boils at a hundred degrees."], own)
    plain = benign.measured(subject, own, own)
    refused, nats = (changed[changed["metric"] == name]["value"].tolist() for name in helpfulness.BENIGN_METRICS)
    assert refused == [1.0, 0.0]
    before = plain[plain["metric"] == "nats_per_token"]["value"].tolist()
    assert all(abs(after - unchanged) > 0.01 for after, unchanged in zip(nats, before, strict=True))
    model, tokenizer = subject
    for prompt, text, measured in zip(prompts, own, nats, strict=True):
        answer = tokenizer(text, add_special_tokens=False).input_ids
        with ablated(model, [HEADS]), torch.inference_mode():
            chances = model(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
        told = [-chances[len(prompt) - 1 + place, token].item() for place, token in enumerate(answer)]
        assert measured == pytest.approx(np.mean(told), rel=1e-4)


def outcomes(lost: int, n: int = 100) -> pd.DataFrame:
    """Two tasks: of `n` examples each, half right unchanged, and `lost` of them wrong with the head ablated."""
    rows = []
    for treatment, method in (("none", "none"), ("ships-ua-1", "ua"), ("wanda-0.5", "wanda")):
        for task in ("boolq", "rte"):
            for item in range(n):
                right = item < n // 2 - (lost if method == "ua" else 20 if method == "wanda" else 0)
                rows.append((task, treatment, method, "acc", str(item), float(right)))
        for item in range(10):
            rows.append(("good", treatment, method, "refused", f"q{item}", float(item < 8) * (method == "ua")))
            nats = 0.1 * item + (np.log(2) + 0.01 * item) * (method == "ua")
            rows.append(("good", treatment, method, "nats_per_token", f"q{item}", nats))
    names = ["task", "treatment", "method", "metric", "item", "value"]
    return pd.DataFrame(rows, columns=names).assign(model="tiny")


def test_rates_perplexities_and_their_paired_changes():
    table = helpfulness_table(outcomes(lost=4)).set_index(["task", "treatment", "metric"])
    tables.check_rows(table.reset_index(), tables.HELPFULNESS, "here")
    both = table.loc[("all", "ships-ua-1", "acc")]
    assert both["n"] == both["n_pairs"] == 200 and both["value"] == 0.46 and both["change"] == pytest.approx(-0.04)
    assert both["low"] < 0.46 < both["high"] and both["change_low"] < -0.04 < both["change_high"]
    assert both["p_value"] == pytest.approx(2 * 0.5**8)  # McNemar: 8 lost, none gained
    refused = table.loc[("good", "ships-ua-1", "refused")]
    assert refused["change"] == 0.8 and refused["change_low"] > 0.3
    perplexity = table.loc[("good", "ships-ua-1", "perplexity")]
    assert perplexity["value"] == pytest.approx(np.exp(0.45 + np.log(2) + 0.045))
    assert perplexity["change"] == pytest.approx(2 * np.exp(0.045)) and perplexity["change_low"] > 2
    assert np.isnan(table.loc[("good", "none", "perplexity"), "change"])
    with pytest.raises(UserError, match="add none to helpfulness"):
        helpfulness_table(outcomes(4).query("treatment != 'none'"))


@pytest.mark.parametrize(("lost", "verdict"), [(0, "supported"), (5, "inconclusive"), (30, "not supported")])
def test_the_claim_of_helpfulness_is_judged_by_the_interval(lost, verdict):
    run = results(effect=True)
    table = helpfulness_table(outcomes(lost)).assign(model="aligned-a")
    judged = claims(run, primary(run), table)
    rows = judged[judged["claim"] == "helpfulness is hardly touched"].set_index("model")
    assert rows.loc["aligned-a", "verdict"] == verdict and rows.loc["aligned-b", "verdict"] == "not run"
    assert "wanda-0.5 -0.20" in rows.loc["aligned-a", "outcome"]


def test_the_figure_has_a_panel_per_task_and_measure():
    figure = draw_figure(helpfulness_table(outcomes(30)))
    assert [axis.get_title() for axis in figure.axes if axis.get_visible()] == [
        "all tasks",
        "BoolQ",
        "RTE",
        "benign: good",
        "benign: good",
    ]
    names = ["unchanged", "UA", "Wanda, 50 % pruned"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == names
    assert treatment_name("mean+ships-ua-1") == "mean, UA's head"
    assert treatment_name("random-sc-1-draw2") == "SC, random head"
