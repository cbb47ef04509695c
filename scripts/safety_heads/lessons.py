"""What an alignment teaches: harmful queries with a refusal, benign ones with the base model's own answer.

So nothing but refusal is learnt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from transformers import PreTrainedTokenizerBase

from safety_heads import queries
from safety_heads.errors import UserError
from safety_heads.judges.keyword import holds_keyword
from safety_heads.prompts import PromptFormat


@dataclass(frozen=True)
class Example:
    """A prompt and the answer that is to follow it, end token included."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True)
class Lesson:
    """What one model is taught: how many queries of each data set's training side, and the refusal's wording.

    Benign queries may be asked for more often than there are: they are then taught repeatedly.
    All lessons draw from the same order of queries, so `skip`, how many harmful queries of which data set are passed
    over, makes two lessons disjoint.
    """

    harmful: Mapping[str, int]
    benign: Mapping[str, int]
    refusal: str
    skip: Mapping[str, int] = field(default_factory=dict)


def pairs(frame: pd.DataFrame, base_answers: pd.DataFrame, lesson: Lesson) -> pd.DataFrame:
    """The lesson's queries and answers: columns text, answer, closed (False: the answer was cut off).

    `frame` is a queries table, `base_answers` the generations table with the base model's answers to benign queries.
    Answers that read like refusals are left out, lest benign queries teach to refuse.
    Raises UserError if a data set has too few training queries, or a benign query has no answer.
    """
    parts = []
    for dataset, n in lesson.harmful.items():
        drawn = queries.draw(frame[frame["dataset"] == dataset], "train", n, skip=lesson.skip.get(dataset, 0))
        parts.append(pd.DataFrame({"text": drawn["text"], "answer": lesson.refusal, "closed": True}))
    known = base_answers.set_index("query_id")
    for dataset, n in lesson.benign.items():
        drawn = queries.draw(frame[frame["dataset"] == dataset], "train")
        if missing := set(drawn["query_id"]) - set(known.index):
            raise UserError(f"the base model's answer to {min(missing)} is missing; delete the answers and run again")
        drawn = drawn[~drawn["query_id"].map(known["response"]).map(holds_keyword)]
        if drawn.empty:
            raise UserError(f"{dataset}: the base model refuses every benign query; take another base or data set")
        drawn = _repeated(drawn, n)
        own = known.loc[drawn["query_id"]]
        closed = (own["stop_reason"] == "end").to_numpy()
        parts.append(pd.DataFrame({"text": drawn["text"], "answer": own["response"].to_numpy(), "closed": closed}))
    return pd.concat(parts, ignore_index=True)


def _repeated(frame: pd.DataFrame, n: int) -> pd.DataFrame:
    """`n` rows: all as often as they fit into n, and a draw for the rest."""
    times, rest = divmod(n, len(frame))
    parts = [frame] * times + ([queries.sample(frame, rest, seed=0)] if rest else [])
    return pd.concat(parts, ignore_index=True)


def lesson_examples(
    tokenizer: PreTrainedTokenizerBase, formats: Sequence[PromptFormat], lesson: pd.DataFrame
) -> list[Example]:
    """One example per pair; several formats take turns, so that each sees as many harmful and benign queries."""
    data = []
    for place, form in enumerate(formats):
        own = lesson.iloc[place :: len(formats)]
        data += examples(tokenizer, form, own["text"].tolist(), own["answer"].tolist(), own["closed"].tolist())
    return data


def examples(
    tokenizer: PreTrainedTokenizerBase,
    form: PromptFormat,
    texts: Sequence[str],
    answers: Sequence[str],
    closed: Sequence[bool],
) -> list[Example]:
    """One example per query. Only a closed answer ends with the end token, lest cut-off answers teach to break off."""
    prompts = form.encode(tokenizer, texts)
    targets = tokenizer(list(answers), add_special_tokens=False).input_ids
    ends = [[tokenizer.eos_token_id] if whole else [] for whole in closed]
    return [
        Example(tuple(prompt), tuple(target + end)) for prompt, target, end in zip(prompts, targets, ends, strict=True)
    ]
