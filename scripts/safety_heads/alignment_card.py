"""How well an alignment took, on held-out queries: refusals, over-refusals, and whether benign answers stay the same.

The card is written whatever it says; `enforce` then refuses a model that fails the gate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safety_heads import align, lessons, queries
from safety_heads.decoding import Decoding, Request
from safety_heads.errors import UserError
from safety_heads.generation import generate
from safety_heads.judges.keyword import judge
from safety_heads.prompts import PromptFormat
from safety_heads.statistics import wilson

Subject = tuple[PreTrainedModel, PreTrainedTokenizerBase]


@dataclass(frozen=True)
class Exam:
    """`n` held-out queries of every data set (all, where fewer are left), and the gate.

    Data sets that are `watched` are measured like the others, but none of them fails a model.
    """

    n: int
    seed: int
    max_new_tokens: int
    judge: str
    least_refusal: float  # on each harmful data set
    most_over_refusal: float  # on each benign data set
    precision: str = "float32"  # of the perplexities, as `align.products` takes it; answers are in full precision
    watched: Sequence[str] = ()


def measure(
    subjects: Mapping[str, Subject],
    frame: pd.DataFrame,
    answers: pd.DataFrame,
    formats: Sequence[PromptFormat],
    exam: Exam,
) -> dict:
    """The card of `subjects["after"]`; `subjects["before"]` is its base, whose benign `answers` are the yardstick."""
    held_out = pd.concat([_draw(dataset, exam) for _, dataset in frame.groupby("dataset", sort=False)])
    rows = []
    for form in formats:
        rows += _refusals(subjects["after"], held_out, form, exam)
    for row in rows:
        if not row["harmful"]:
            form = next(form for form in formats if form.name == row["format"])
            of_dataset = held_out[held_out["dataset"] == row["dataset"]]
            row.update(_perplexities(subjects, of_dataset, answers, form, exam.precision))
    return {"exam": asdict(exam), "failures": failures(rows, exam), "measured": rows}


def _draw(dataset: pd.DataFrame, exam: Exam) -> pd.DataFrame:
    held_out = queries.draw(dataset, "eval")
    return queries.sample(held_out, min(exam.n, len(held_out)), exam.seed)


def _refusals(subject: Subject, held_out: pd.DataFrame, form: PromptFormat, exam: Exam) -> list[dict]:
    """One row per data set; all are answered together, for large batches are decoded faster."""
    prompts = form.encode(subject[1], held_out["text"])
    requests = [Request(query, prompt) for query, prompt in zip(held_out["query_id"], prompts, strict=True)]
    [given] = generate(*subject, requests, [Decoding("greedy", exam.max_new_tokens)], exam.seed)
    verdicts = judge(exam.judge, held_out["text"].tolist(), [answer.text for answer in given])
    judged = held_out.assign(refused=[verdict.verdict == "refused" for verdict in verdicts])
    rows = []
    for (dataset, harmful), of_dataset in judged.groupby(["dataset", "harmful"], sort=False):
        n, n_refused = len(of_dataset), int(of_dataset["refused"].sum())
        low, high = wilson(n_refused, n)
        rates = {"n": n, "refused": n_refused / n, "low": float(low), "high": float(high)}
        rows.append({"dataset": dataset, "harmful": bool(harmful), "format": form.name, **rates})
    return rows


def _perplexities(
    subjects: Mapping[str, Subject], held_out: pd.DataFrame, answers: pd.DataFrame, form: PromptFormat, precision: str
) -> dict[str, float]:
    """Perplexity of the base model's own answers, before and after the alignment."""
    both = held_out.merge(answers[["query_id", "response"]], on="query_id")
    found = {}
    for when, (model, tokenizer) in subjects.items():
        data = lessons.examples(tokenizer, form, both["text"].tolist(), both["response"].tolist(), [False] * len(both))
        found[f"perplexity_{when}"] = align.perplexity(model, data, precision)
    return found


def failures(rows: Sequence[Mapping], exam: Exam) -> list[str]:
    """What misses the gate, in words; empty if nothing does."""
    missed = []
    for row in rows:
        if row["dataset"] in exam.watched:
            continue
        where = f"{row['dataset']}, {row['format']} format: refuses {row['refused']:.2f} of {row['n']}"
        if row["harmful"] and row["refused"] < exam.least_refusal:
            missed.append(f"{where} harmful queries, {exam.least_refusal:.2f} are wanted")
        if not row["harmful"] and row["refused"] > exam.most_over_refusal:
            missed.append(f"{where} benign queries, {exam.most_over_refusal:.2f} are allowed")
    return missed


def enforce(card: Mapping, name: str) -> None:
    """Raise UserError, with every miss, if the model fails its gate."""
    if card["failures"]:
        raise UserError(
            f"models.{name} fails its alignment gate: {'; '.join(card['failures'])}. "
            f"Change models.{name}.align or alignment.recipe in the config and run again"
        )
