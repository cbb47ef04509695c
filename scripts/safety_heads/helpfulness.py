"""Helpfulness of a model as it is, with heads ablated, or pruned (paper, fig. 6b), and what the paper lacks.

Zero-shot accuracy by lm-eval; and on benign queries the share refused, and the perplexity of the unchanged model's own
answers. One value per example, so that changes can be paired.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import pandas as pd
import torch
from lm_eval import evaluator
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safety_heads.comparators import pruned
from safety_heads.decoding import Decoding, Request
from safety_heads.errors import UserError
from safety_heads.generation import generate
from safety_heads.heads import WITHOUT_EPSILON, AblatedHead, Ablation
from safety_heads.interventions import ablated_heads
from safety_heads.judges.keyword import judge
from safety_heads.selection import pruning_name

METRICS = ("acc", "acc_norm")
BENIGN_METRICS = ("refused", "nats_per_token")
Subject = tuple[PreTrainedModel, PreTrainedTokenizerBase]


@dataclass(frozen=True)
class Treatment:
    """What is done to the model: heads ablated, or a pruning method with its sparsity; neither: nothing."""

    name: str
    method: str  # none | ua | sc | zero | mean | wanda | sparsegpt
    heads: tuple[AblatedHead, ...] = ()
    sparsity: float | None = None

    def pruning(self, model: PreTrainedModel, calibration: Sequence[Sequence[int]]) -> AbstractContextManager[None]:
        """Within the block the model is pruned, if it is to be; `calibration` are token ids."""
        return pruned(model, calibration, self.method, self.sparsity) if self.sparsity else nullcontext()


def treatments(plan: pd.DataFrame, names: Sequence[str], pruning: Mapping[str, float]) -> list[Treatment]:
    """The interventions `names` of `plan`, then the pruned models. `mean+NAME` ablates the heads of NAME by mean.

    Raises UserError for no treatment at all, or a name that is not in the plan or has other heads for every query.
    """
    found = []
    for name in names:
        label, _, origin = name.rpartition("+")
        rows = plan[plan["intervention"] == origin]
        if rows.empty or label not in ("", *WITHOUT_EPSILON):
            known = ", ".join(plan["intervention"].unique())
            raise UserError(f"helpfulness.interventions: {name!r} is unknown; choose from {known}, or mean+ before one")
        if rows["query_id"].notna().any():
            raise UserError(f"helpfulness.interventions: {name!r} has other heads for every query; choose another")
        heads = ablated_heads(rows, "") or ()
        if label:
            heads = tuple((head, Ablation(label, 0.0)) for head, _ in heads)
        found.append(Treatment(name, heads[0][1].kind if heads else "none", heads))
    if not names and not pruning:
        raise UserError("nothing is to be measured; name an intervention by --keep, or a --pruning")
    return found + [Treatment(pruning_name(method, share), method, (), share) for method, share in pruning.items()]


def accuracies(model: HFLM, tasks: Mapping[str, ConfigurableTask]) -> pd.DataFrame:
    """1 where the right choice is the likeliest, else 0: columns task, item, metric, value."""
    loaded = {"tasks": dict(tasks), "groups": {}, "group_map": {}}
    samples = evaluator.evaluate(model, loaded, bootstrap_iters=0)["samples"]
    return pd.DataFrame(
        {"task": task, "item": str(sample["doc"]["item"]), "metric": metric, "value": float(sample[metric])}
        for task, of_task in samples.items()
        for sample in of_task
        for metric in METRICS
        if metric in sample
    )


@dataclass(frozen=True)
class Benign:
    """Benign queries, the judge of their answers, and how they are answered (greedy decoding)."""

    queries: pd.DataFrame
    prompts: Sequence[Sequence[int]]
    judge: str
    decoding: Decoding
    seed: int

    def answers(self, subject: Subject, treatment: Treatment, with_drafts: bool) -> list[str]:
        """Of a model to which pruning, if any, is already applied."""
        rows = zip(self.queries["query_id"], self.prompts, strict=True)
        requests = [Request(query, list(prompt), treatment.heads) for query, prompt in rows]
        [given] = generate(*subject, requests, [self.decoding], self.seed, with_drafts=with_drafts)
        return [answer.text for answer in given]

    def measured(self, subject: Subject, texts: Sequence[str], own: Sequence[str]) -> pd.DataFrame:
        """Whether each of `texts` is a refusal, and the mean surprise of the unchanged model's `own` answers."""
        verdicts = judge(self.judge, self.queries["text"].tolist(), list(texts))
        targets = subject[1](list(own), add_special_tokens=False).input_ids
        nats = [nats_per_token(subject[0], *pair) for pair in zip(self.prompts, targets, strict=True)]
        keys = {"task": self.queries["dataset"].to_numpy(), "item": self.queries["query_id"].to_numpy()}
        refused = [float(verdict.verdict == "refused") for verdict in verdicts]
        both = dict(zip(BENIGN_METRICS, (refused, nats), strict=True))
        frames = [pd.DataFrame({**keys, "metric": name, "value": values}) for name, values in both.items()]
        return pd.concat(frames, ignore_index=True).dropna(subset="value")


@torch.inference_mode()
def nats_per_token(model: PreTrainedModel, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """Mean cross-entropy of the token ids `answer` after `prompt`, of which exp is the perplexity; NaN without any."""
    ids = torch.tensor([[*prompt, *answer]], device=model.device)
    logits = model(ids).logits[0, len(prompt) - 1 : -1].float()
    return functional.cross_entropy(logits, ids[0, len(prompt) :].to(logits.device)).item()
