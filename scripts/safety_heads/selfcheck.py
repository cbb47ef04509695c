"""A model is checked as it is loaded, on the run's own prompts, before anything is concluded from it."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from safety_heads.attention import IMPLEMENTATION
from safety_heads.errors import UserError
from safety_heads.heads import Ablation, Head
from safety_heads.sweep import Sweep, plain_readout

# In nats. Not less than 1e-6, for transformers' own attention takes its softmax in float32 at best.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}
ZERO = Ablation("zero", 0.0)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Check:
    """Largest gaps, in nats, between log-probabilities that should be equal (of tokens likelier than 0.001)."""

    attention_gap: float  # this project's attention function against the architecture's own
    sweep_gap: float | None  # the sweep against plain passes; None: blocks of this kind cannot be run one by one
    sweep_is_exact: bool  # if not, plain passes are taken: as exact, but slower


@torch.inference_mode()
def check_model(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> Check:
    """Compare this project's ways with the stock model's on the two shortest of `prompts`.

    Raises UserError if the model is no subject at all: a prediction is not finite, a later token changes an earlier
    prediction, ablating a head changes nothing, or this project's attention is not the architecture's.
    """
    name, sample, tolerance = type(model).__name__, sorted(prompts, key=len)[:2], TOLERANCE[model.dtype]
    _, base = plain_readout(model, sample)
    if not base.isfinite().all():
        raise UserError(f"{name}: predictions are not finite; choose another dtype (bfloat16 or float32)")
    if _sees_later_tokens(model, sample[0], tolerance):
        raise UserError(f"{name} is not causal: a later token changes an earlier prediction")
    config = model.config.get_text_config()
    heads = [Head(layer, config.num_attention_heads - 1) for layer in sorted({0, config.num_hidden_layers - 1})]
    plain = {head: plain_readout(model, sample, [(head, ZERO)])[1] for head in heads}
    if not any((base != ablated).any() for ablated in plain.values()):
        raise UserError(f"{name}: ablating heads changes nothing: it does not use transformers' attention functions")
    with _own_attention(model):
        attention_gap = largest_gap(plain_readout(model, sample)[1], base)
    if attention_gap > tolerance:
        raise UserError(
            f"{name}: its own attention differs from the one that ablates heads by {attention_gap:.2g} nats, so it has "
            f"a part that is not covered; choose a model of another architecture"
        )
    sweep_gap = _sweep_gap(model, sample, plain)
    if sweep_gap is not None and sweep_gap > tolerance:
        logger.warning("the sweep is off by %.2g nats; plain passes are used instead: exact, slower", sweep_gap)
    return Check(attention_gap, sweep_gap, sweep_gap is not None and sweep_gap <= tolerance)


def _sweep_gap(model: PreTrainedModel, sample: Sequence[Sequence[int]], plain: dict[Head, Tensor]) -> float | None:
    try:
        swept = {head: out.log_probs[0] for out in Sweep(model, sample).run(list(plain), ZERO) for head in out.heads}
    except (AttributeError, IndexError, KeyError, StopIteration, TypeError, RuntimeError) as reason:
        logger.warning("the sweep does not fit this architecture (%s); plain passes are used: exact, slower", reason)
        return None
    return max(largest_gap(swept[head], plain[head]) for head in plain)


@contextmanager
def _own_attention(model: PreTrainedModel) -> Iterator[None]:
    """Within the block, the model attends as its architecture's own code does."""
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(IMPLEMENTATION)


def _sees_later_tokens(model: PreTrainedModel, prompt: Sequence[int], tolerance: float) -> bool:
    ids = torch.tensor([prompt, [*prompt[:-1], prompt[0]]], device=model.device)
    log_probs = model(input_ids=ids).logits[:, :-1].float().log_softmax(-1)
    return len(prompt) > 1 and largest_gap(log_probs[0], log_probs[1]) > tolerance


def largest_gap(one: Tensor, other: Tensor) -> float:
    """The largest difference among predictions that matter: those above 0.001 in either, and each row's likeliest.

    Half-precision logits are too coarse for the unlikely ones.
    """
    larger = torch.maximum(one, other)
    likely = larger >= larger.amax(-1, keepdim=True).clamp(max=math.log(0.001))
    return (one - other).abs()[likely].max().item()
