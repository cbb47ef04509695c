"""Teach a model to refuse: a few minutes of fine-tuning that make a safety-aligned model from one that refuses nothing.

Harmful queries are answered by a refusal, benign ones by the base model's own answer, so that nothing but refusal is
learnt. AdamW, one linear warm-up and decay. The loss is the mean cross-entropy of the answer's tokens.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, get_linear_schedule_with_warmup

from safety_heads import queries
from safety_heads.errors import UserError
from safety_heads.models import computes_in_bfloat16
from safety_heads.prompts import PromptFormat, shared_prefix_length


@dataclass(frozen=True)
class Example:
    """A prompt and the answer that is to follow it, end token included."""

    prompt: list[int]
    answer: list[int]


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


@dataclass(frozen=True)
class Recipe:
    """How to train; `learning_rate` is the peak. Embeddings and the blocks below `first_layer` stay as they are.

    `precision` of matrix products: float32, or native for bfloat16 where the processor computes in it.
    """

    learning_rate: float
    batch_size: int
    epochs: int
    seed: int
    first_layer: int = 0
    precision: str = "float32"


def pairs(frame: pd.DataFrame, base_answers: pd.DataFrame, lesson: Lesson) -> pd.DataFrame:
    """The lesson's queries and answers: columns text, answer, closed (False: the answer was cut off).

    `frame` is a queries table, `base_answers` the generations table with the base model's answers to benign queries.
    Raises UserError if a data set has too few training queries, or a benign query has no answer.
    """
    parts = []
    for dataset, n in lesson.harmful.items():
        drawn = queries.draw(frame[frame["dataset"] == dataset], "train", n, skip=lesson.skip.get(dataset, 0))
        parts.append(pd.DataFrame({"text": drawn["text"], "answer": lesson.refusal, "closed": True}))
    known = base_answers.set_index("query_id")
    for dataset, n in lesson.benign.items():
        drawn = _repeated(queries.draw(frame[frame["dataset"] == dataset], "train"), n)
        if missing := set(drawn["query_id"]) - set(known.index):
            raise UserError(f"the base model's answer to {min(missing)} is missing; delete the answers and run again")
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
    return [Example(prompt, target + end) for prompt, target, end in zip(prompts, targets, ends, strict=True)]


def batches(data: Sequence[Example], recipe: Recipe) -> Iterator[list[Example]]:
    """All examples once per epoch, in random batches."""
    rng = random.Random(recipe.seed)
    for _ in range(recipe.epochs):
        shuffled = rng.sample(data, len(data))
        yield from (shuffled[i : i + recipe.batch_size] for i in range(0, len(shuffled), recipe.batch_size))


def packed(batch: Sequence[Example]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The batch as one row: inputs `[1, pos]`, the answer tokens' positions `[tokens]` and the example of each.

    All examples stand behind the prompts' shared prefix, and each sees that prefix and itself only. So nothing is
    padded and the prefix is run once.
    """
    n_prefix = shared_prefix_length([example.prompt for example in batch])
    parts = [batch[0].prompt[:n_prefix], *(example.prompt[n_prefix:] + example.answer for example in batch)]
    lengths = torch.tensor([len(part) for part in parts])
    owner = torch.arange(len(parts)).repeat_interleave(lengths)  # 0 = the prefix
    sees = ((owner[:, None] == owner) | (owner == 0)).tril()
    positions = [range(n_prefix), *(range(n_prefix, n_prefix + len(part)) for part in parts[1:])]
    row = {
        "input_ids": torch.tensor([list(chain.from_iterable(parts))]),
        "position_ids": torch.tensor([list(chain.from_iterable(positions))]),
        "attention_mask": sees[None, None],
    }
    ends = lengths.cumsum(0)[1:].tolist()
    answers = [torch.arange(end - len(example.answer), end) for end, example in zip(ends, batch, strict=True)]
    owners = torch.arange(len(batch)).repeat_interleave(torch.tensor([len(answer) for answer in answers]))
    return row, torch.cat(answers), owners


def answer_losses(model: PreTrainedModel, batch: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Cross-entropy in nats of every answer token in the batch, `[tokens]`, and the example each belongs to.

    Raises UserError if an example is longer than the model's attention window.
    """
    row, places, owners = packed(batch)
    longest = int(row["position_ids"].max()) + 1
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    if window is not None and longest > window:
        raise UserError(f"an example has {longest} tokens, the model's attention window {window}; align another model")
    row = {name: value.to(model.device) for name, value in row.items()}
    hidden = model.get_decoder()(**row, use_cache=False).last_hidden_state[0]
    logits = model.get_output_embeddings()(hidden[places - 1]).float()  # only what predicts an answer is unembedded
    return functional.cross_entropy(logits, row["input_ids"][0, places], reduction="none"), owners


def trained_parameters(model: PreTrainedModel, first_layer: int) -> list[torch.nn.Parameter]:
    """The parameters to train; all others stop asking for gradients, so that autograd spares their backward pass."""
    blocks = model.get_decoder().layers
    if first_layer >= len(blocks):
        raise UserError(f"alignment.recipe.first_layer {first_layer}: the model has {len(blocks)} layers, from 0")
    if first_layer > 0:
        for frozen in (model.get_input_embeddings(), *blocks[:first_layer]):
            frozen.requires_grad_(False)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def fine_tune(model: PreTrainedModel, data: Sequence[Example], recipe: Recipe) -> list[float]:
    """Train `model` in place; returns the mean loss of every step.

    Raises UserError if `recipe.first_layer` leaves no block to train.
    """
    trained = trained_parameters(model, recipe.first_layer)
    steps = recipe.epochs * -(-len(data) // recipe.batch_size)
    optimiser = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=0.0, fused=True)
    schedule = get_linear_schedule_with_warmup(
        optimiser, num_warmup_steps=max(1, steps // 10), num_training_steps=steps
    )
    losses = []
    in_bfloat16 = recipe.precision == "native" and computes_in_bfloat16(model.device)
    mixed = torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=in_bfloat16)
    model.train()
    for batch in (progress := tqdm(batches(data, recipe), total=steps, desc="align", unit="step", mininterval=5)):
        with mixed:  # anew in each step, for it keeps the weights' copies until it ends
            loss = answer_losses(model, batch)[0].mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(loss.item())
        progress.set_postfix(loss=f"{losses[-1]:.2f}")
    model.eval()
    return losses


@torch.inference_mode()
def perplexity(model: PreTrainedModel, data: Sequence[Example], batch_size: int = 8) -> float:
    """exp of the mean cross-entropy per answer token."""
    losses = [answer_losses(model, data[i : i + batch_size])[0].double() for i in range(0, len(data), batch_size)]
    return torch.cat(losses).mean().exp().item()
