"""Score heads: Ships and generalised Ships from one sweep, as rows of the ships and subspace tables.

Before a sweep is trusted it is compared with plain forward passes on the run's own prompts (`check_model`).
"""

import logging
from collections.abc import Iterator, Sequence

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel

from safety_heads.attention import Ablation, Head, Intervention
from safety_heads.errors import UserError
from safety_heads.models import ModelShape
from safety_heads.ships import kl_divergence, refusal_log_odds
from safety_heads.subspace import left_basis, principal_angles
from safety_heads.sweep import Readout, Sweep, plain_readout

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}  # nats

logger = logging.getLogger(__name__)


class Scorer:
    """Scores heads on `prompts`, each on top of `group`, against the model without any ablation.

    `openings` are token ids that open a refusal (none: the sign stays empty); `rank` is r of eq. 11.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        group: Intervention = (),
        openings: Sequence[int] = (),
        rank: int = 1,
    ) -> None:
        self.model, self.prompts, self.group, self.openings = model, prompts, tuple(group), list(openings)
        self.sweep_is_exact = check_model(model, prompts)
        hidden, self.log_probs = plain_readout(model, prompts)
        self.basis = left_basis(hidden, rank)

    def ships(self, readout: Readout, query_ids: Sequence[str]) -> pd.DataFrame:
        """Rows (query_id, layer, head, kl_nats, refusal_logodds_change), eq. 9."""
        divergence = kl_divergence(self.log_probs, readout.log_probs)
        change = torch.full_like(divergence, torch.nan)
        if self.openings:
            change = refusal_log_odds(readout.log_probs, self.openings)
            change = change - refusal_log_odds(self.log_probs, self.openings)
        return pd.DataFrame(
            {
                **_by_head(readout.heads, len(query_ids)),
                "query_id": list(query_ids) * len(readout.heads),
                "kl_nats": divergence.flatten().tolist(),
                "refusal_logodds_change": change.flatten().tolist(),
            }
        )

    def subspace(self, readout: Readout) -> pd.DataFrame:
        """Rows (layer, head, score_rad, angles_rad), eq. 11."""
        angles = principal_angles(self.basis, left_basis(readout.hidden, self.basis.shape[-1]))
        scores = {"score_rad": angles.sum(-1).tolist(), "angles_rad": angles.tolist()}
        return pd.DataFrame({**_by_head(readout.heads, 1), **scores})

    def readouts(self, heads: Sequence[Head], ablation: Ablation) -> Iterator[Readout]:
        """The model's last position with each of `heads` ablated beside the group."""
        if self.sweep_is_exact:
            yield from Sweep(self.model, self.prompts, self.group).run(heads, ablation)
            return
        for head in heads:
            hidden, log_probs = plain_readout(self.model, self.prompts, (*self.group, (head, ablation)))
            yield Readout([head], hidden[None], log_probs[None])


def _by_head(heads: Sequence[Head], times: int) -> dict[str, list[int]]:
    repeated = [head for head in heads for _ in range(times)]
    return {"layer": [head.layer for head in repeated], "head": [head.head for head in repeated]}


def shard_of(shape: ModelShape, shard: int, n_shards: int) -> list[Head]:
    """The heads of shard `shard` (from 1) of `n_shards`: layers are dealt out in turn, for the low ones cost most."""
    if not 1 <= shard <= n_shards <= shape.n_layers:
        raise UserError(f"shard {shard} of {n_shards} is impossible with {shape.n_layers} layers")
    return [Head(layer, head) for layer in range(shard - 1, shape.n_layers, n_shards) for head in range(shape.n_heads)]


def cost(shape: ModelShape, heads: Sequence[Head], prompts: Sequence[Sequence[int]]) -> str:
    """What a sweep will cost, in words, before it starts: two operations per weight, token and block that is run."""
    n_tokens = sum(len(prompt) for prompt in prompts)
    per_block = (shape.n_parameters - shape.d_vocab * shape.d_model) / shape.n_layers
    operations = 2 * per_block * n_tokens * sum(shape.n_layers - head.layer for head in heads)
    return f"{len(heads)} heads x {len(prompts)} queries, {n_tokens} tokens: at most {operations / 1e9:,.0f} GFLOP"


@torch.inference_mode()
def check_model(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> bool:
    """Whether the sweep agrees with plain forward passes on two of `prompts`; if not, plain passes are to be used.

    Raises UserError if the model is no subject at all: a later token changes an earlier prediction, a prediction is
    not finite, or ablating a head changes nothing.
    """
    config = model.config.get_text_config()
    sample, tolerance = [prompts[0], prompts[-1]], TOLERANCE[model.dtype]
    heads = [Head(layer, config.num_attention_heads - 1) for layer in {0, config.num_hidden_layers - 1}]
    _, base = plain_readout(model, sample)
    if not base.isfinite().all():
        raise UserError("the model's predictions are not finite; choose another dtype (bfloat16 or float32)")
    if _sees_later_tokens(model, sample[0], tolerance):
        raise UserError("the model is not causal: a later token changes an earlier prediction")
    zero = Ablation("zero", 0.0)
    plain = {head: plain_readout(model, sample, [(head, zero)])[1] for head in heads}
    if not any((base != ablated).any() for ablated in plain.values()):
        raise UserError(
            "ablating heads changes nothing: this architecture does not use transformers' attention functions"
        )
    try:
        swept = {readout.heads[0]: readout.log_probs[0] for readout in Sweep(model, sample).run(heads, zero)}
        error = max(_largest_gap(swept[head], plain[head]) for head in heads)
    except (AttributeError, KeyError, TypeError, RuntimeError) as reason:
        logger.warning("the sweep does not fit this architecture (%s); plain passes are used: exact, slower", reason)
        return False
    if error > tolerance:
        logger.warning("the sweep is off by %.2g nats; plain passes are used instead: exact, slower", error)
    return error <= tolerance


def _sees_later_tokens(model: PreTrainedModel, prompt: Sequence[int], tolerance: float) -> bool:
    ids = torch.tensor([prompt, [*prompt[:-1], prompt[0]]], device=model.device)
    log_probs = model(input_ids=ids).logits[:, :-1].float().log_softmax(-1)
    return len(prompt) > 1 and _largest_gap(log_probs[0], log_probs[1]) > tolerance


def _largest_gap(one: Tensor, other: Tensor) -> float:
    """The largest difference among predictions that matter: those above 1e-6 in either."""
    likely = torch.maximum(one, other) > -13.8
    return (one - other).abs()[likely].max().item()
