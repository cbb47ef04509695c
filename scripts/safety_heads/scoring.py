"""Score heads: Ships and generalised Ships from one sweep, as rows of the ships and subspace tables.

Before a sweep is trusted it is compared with plain forward passes on the run's own prompts (selfcheck.py).
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from safety_heads.errors import UserError
from safety_heads.flops import sweep_flops
from safety_heads.heads import Ablation, Head, Intervention
from safety_heads.prompts import shared_prefix_length
from safety_heads.selfcheck import Check, check_model
from safety_heads.shapes import ModelShape
from safety_heads.ships import kl_divergence, refusal_log_odds
from safety_heads.subspace import left_basis, principal_angles
from safety_heads.sweep import Readout, Sweep, plain_readout
from safety_heads.trunk import CACHE_GIB


class Scorer:
    """Scores heads on `prompts`, each on top of `group`, against the model without any ablation.

    `openings` are token ids that open a refusal (none: the sign stays empty); `rank` is r of eq. 11; `check` is the
    outcome of an earlier check of the same model; `cache_gib` as for `trunk.Trunk`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        group: Intervention = (),
        openings: Sequence[int] = (),
        rank: int = 1,
        check: Check | None = None,
        cache_gib: float = CACHE_GIB,
    ) -> None:
        self.model, self.prompts, self.group, self.openings = model, prompts, tuple(group), list(openings)
        self.cache_gib = cache_gib
        self.check = check or check_model(model, prompts)
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

    @cached_property
    def sweep(self) -> Sweep:
        """One pass over the prompts, which serves all ablations."""
        return Sweep(self.model, self.prompts, self.group, cache_gib=self.cache_gib)

    def readouts(self, heads: Sequence[Head], ablation: Ablation) -> Iterator[Readout]:
        """The model's last position with each of `heads` ablated beside the group."""
        if self.check.sweep_is_exact:
            yield from self.sweep.run(heads, ablation)
            return
        for head in heads:
            hidden, log_probs = plain_readout(self.model, self.prompts, (*self.group, (head, ablation)))
            yield Readout([head], hidden[None], log_probs[None])


def _by_head(heads: Sequence[Head], times: int) -> dict[str, list[int]]:
    repeated = [head for head in heads for _ in range(times)]
    return {"layer": [head.layer for head in repeated], "head": [head.head for head in repeated]}


def score_heads(
    scorer: Scorer, heads: Sequence[Head], ablation: Ablation, query_ids: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ships and generalised Ships of `heads` from one sweep, as rows for the ships and subspace tables."""
    ships, subspace = [], []
    for readout in scorer.readouts(heads, ablation):
        ships.append(scorer.ships(readout, query_ids))
        subspace.append(scorer.subspace(readout))
    return pd.concat(ships, ignore_index=True), pd.concat(subspace, ignore_index=True)


def shard_of(shape: ModelShape, shard: int, n_shards: int) -> list[Head]:
    """The heads of shard `shard` (from 1) of `n_shards`: consecutive heads that cost about as much as any other's.

    A head costs as many blocks as there are from its layer up, so shards of low layers hold fewer heads.
    """
    if not 1 <= shard <= n_shards <= shape.n_layers:
        raise UserError(f"shard {shard} of {n_shards} is impossible with {shape.n_layers} layers")
    heads = [Head(layer, head) for layer in range(shape.n_layers) for head in range(shape.n_heads)]
    before = np.cumsum([0, *(shape.n_layers - head.layer for head in heads)])
    middle = (before[:-1] + before[1:]) / 2 / before[-1]
    return [head for head, place in zip(heads, middle, strict=True) if int(place * n_shards) == shard - 1]


def cost(shape: ModelShape, heads: Sequence[Head], prompts: Sequence[Sequence[int]]) -> str:
    """What a sweep will cost, in words, before it starts."""
    n_prefix = shared_prefix_length(prompts)
    operations = sweep_flops(shape, [len(prompt) for prompt in prompts], n_prefix, heads)
    n_tokens = n_prefix + sum(len(prompt) - n_prefix for prompt in prompts)
    return f"{len(heads)} heads x {len(prompts)} queries, {n_tokens} tokens: {operations / 1e9:,.0f} GFLOP"
