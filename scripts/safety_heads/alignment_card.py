"""How well an alignment took, on held-out queries: refusals, over-refusals, and whether benign answers stay the same.

The card is written whatever it says; `enforce` then refuses a model that fails the gate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safety_heads import align, queries
from safety_heads.decoding import Decoding, Request
from safety_heads.errors import UserError
from safety_heads.generation import generate
from safety_heads.judges import judge
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
    watched: Sequence[str] = ()


def measure(
    subjects: Mapping[str, Subject],
    frame: pd.DataFrame,
    answers: pd.DataFrame,
    formats: Sequence[PromptFormat],
    exam: Exam,
) -> dict:
    """The card of `subjects["after"]`; `subjects["before"]` is its base, whose benign `answers` are the yardstick."""
    rows = []
    for _, dataset in frame.groupby("dataset", sort=False):
        held_out = queries.draw(dataset, "eval")
        held_out = queries.sample(held_out, min(exam.n, len(held_out)), exam.seed)
        for form in formats:
            rows.append(_refusals(subjects["after"], held_out, form, exam))
            if not rows[-1]["harmful"]:
                rows[-1].update(_perplexities(subjects, held_out, answers, form))
    return {"exam": asdict(exam), "failures": failures(rows, exam), "measured": rows}


def _refusals(subject: Subject, held_out: pd.DataFrame, form: PromptFormat, exam: Exam) -> dict:
    prompts = form.encode(subject[1], held_out["text"])
    requests = [Request(query, prompt) for query, prompt in zip(held_out["query_id"], prompts, strict=True)]
    [given] = generate(*subject, requests, [Decoding("greedy", exam.max_new_tokens)], exam.seed)
    verdicts = judge(exam.judge, held_out["text"].tolist(), [answer.text for answer in given])
    n, n_refused = len(verdicts), sum(verdict.verdict == "refused" for verdict in verdicts)
    low, high = wilson(n_refused, n)
    dataset, harmful = held_out["dataset"].iloc[0], bool(held_out["harmful"].iloc[0])
    rates = {"n": n, "refused": n_refused / n, "low": float(low), "high": float(high)}
    return {"dataset": dataset, "harmful": harmful, "format": form.name, **rates}


def _perplexities(
    subjects: Mapping[str, Subject], held_out: pd.DataFrame, answers: pd.DataFrame, form: PromptFormat
) -> dict[str, float]:
    """Perplexity of the base model's own answers, before and after the alignment."""
    both = held_out.merge(answers[["query_id", "response"]], on="query_id")
    found = {}
    for when, (model, tokenizer) in subjects.items():
        data = align.examples(tokenizer, form, both["text"].tolist(), both["response"].tolist(), [False] * len(both))
        found[f"perplexity_{when}"] = align.perplexity(model, data)
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
