"""Teach a model to refuse: a few minutes of fine-tuning that make a safety-aligned model from one that refuses nothing.

AdamW, one linear warm-up and decay. The loss is the mean cross-entropy of the answer's tokens.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from safety_heads.errors import UserError
from safety_heads.lessons import Example
from safety_heads.models import computes_in_bfloat16
from safety_heads.prompts import shared_prefix_length

KNOWN_PER_BATCH = 16


@dataclass(frozen=True)
class Recipe:
    """How to train; `learning_rate` is the peak. Embeddings and the blocks below `first_layer` stay as they are.

    `precision` is that of `products`.
    """

    learning_rate: float
    batch_size: int
    epochs: int
    seed: int
    first_layer: int = 0
    precision: str = "float32"


def products(model: PreTrainedModel, precision: str) -> torch.autocast:
    """Within the block matrix products are in `precision`: float32, or native for bfloat16 where that is faster."""
    in_bfloat16 = precision == "native" and computes_in_bfloat16(model.device)
    return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=in_bfloat16)


def batches(data: Sequence[Example], recipe: Recipe) -> Iterator[list[Example]]:
    """All examples once per epoch, in random batches."""
    rng = random.Random(recipe.seed)
    for _ in range(recipe.epochs):
        shuffled = rng.sample(data, len(data))
        yield from (shuffled[i : i + recipe.batch_size] for i in range(0, len(shuffled), recipe.batch_size))


def packed(batch: Sequence[Example], n_prefix: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The batch as one row: inputs `[1, pos]`, the answer tokens' positions `[tokens]` and the example of each.

    All examples stand behind the first `n_prefix` tokens, which their prompts share, and each sees these and itself
    only. So nothing is padded and the prefix is run once.
    """
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


class Known:
    """What the first `n_frozen` blocks make of `data`, computed once, since no training changes it."""

    def __init__(self, model: PreTrainedModel, n_frozen: int, data: Sequence[Example]) -> None:
        blocks = model.get_decoder().layers
        self.frozen, self.n_prefix = blocks[:n_frozen], shared_prefix_length([example.prompt for example in data])
        self.prefix, self.own = None, {}  # states [pos, d_model] of the shared prefix, and of each example behind it
        distinct = sorted(dict.fromkeys(data), key=lambda example: len(example.prompt))
        outputs: list[Tensor] = []
        hook = self.frozen[-1].register_forward_hook(lambda _block, _inputs, output: outputs.append(output[0]))
        with torch.no_grad(), _skipped(blocks[n_frozen:]):
            for start in range(0, len(distinct), KNOWN_PER_BATCH):
                batch = distinct[start : start + KNOWN_PER_BATCH]
                model.get_decoder()(**_on_device(packed(batch, self.n_prefix)[0], model), use_cache=False)
                lengths = [len(example.prompt) - self.n_prefix + len(example.answer) for example in batch]
                self.prefix, *own = outputs.pop().split([self.n_prefix, *lengths])
                self.own |= zip(batch, own, strict=True)
        hook.remove()

    @contextmanager
    def standing_in(self, batch: Sequence[Example]) -> Iterator[None]:
        """Within the block, the frozen blocks are not run for `batch`; what they would give is there already."""
        states = torch.cat([self.prefix, *(self.own[example] for example in batch)])[None]
        with _skipped(self.frozen):
            self.frozen[-1].forward = lambda *_args, **_kwargs: states
            yield


@contextmanager
def _skipped(blocks: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Within the block, `blocks` hand on what they are given."""
    for block in blocks:
        block.forward = lambda hidden_states, *_args, **_kwargs: hidden_states
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _on_device(row: dict[str, Tensor], model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: value.to(model.device) for name, value in row.items()}


def answer_losses(
    model: PreTrainedModel, batch: Sequence[Example], known: Known | None = None
) -> tuple[Tensor, Tensor]:
    """Cross-entropy in nats of every answer token in the batch, `[tokens]`, and the example each belongs to.

    Raises UserError if an example is longer than the model's attention window.
    """
    n_prefix = known.n_prefix if known else shared_prefix_length([example.prompt for example in batch])
    row, places, owners = packed(batch, n_prefix)
    longest = int(row["position_ids"].max()) + 1
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    if window is not None and longest > window:
        raise UserError(f"an example has {longest} tokens, the model's attention window {window}; align another model")
    row = _on_device(row, model)
    with known.standing_in(batch) if known else nullcontext():
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
    mixed = products(model, recipe.precision)
    with mixed:
        known = Known(model, recipe.first_layer, data) if recipe.first_layer else None
    model.train()
    for batch in (progress := tqdm(batches(data, recipe), total=steps, desc="align", unit="step", mininterval=5)):
        with mixed:  # anew in each step, for it keeps the weights' copies until it ends
            loss = answer_losses(model, batch, known)[0].mean()
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
def perplexity(
    model: PreTrainedModel, data: Sequence[Example], precision: str = "float32", batch_size: int = 8
) -> float:
    """exp of the mean cross-entropy per answer token."""
    with products(model, precision):
        losses = [answer_losses(model, data[i : i + batch_size])[0].double() for i in range(0, len(data), batch_size)]
    return torch.cat(losses).mean().exp().item()
