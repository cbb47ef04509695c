"""The exact sweep: the last token's distribution and hidden state for every (head, prompt) pair.

Many heads of a layer and many prompts share a batch; each (head, prompt) row branches off the trunk at its layer.
The result equals a plain forward pass per head up to rounding.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from safety_heads.attention import ablated
from safety_heads.blocks import precise, read_out, widened
from safety_heads.errors import UserError
from safety_heads.heads import Ablation, Head, Intervention
from safety_heads.prompts import shared_prefix_length
from safety_heads.trunk import CACHE_GIB, TOKENS_PER_BATCH, Trunk, prompt_groups

logger = logging.getLogger(__name__)

GPU_FACTOR = 4  # a GPU waits for the program between small batches


@dataclass
class Readout:
    """What the sweep gives for some heads on all prompts, in the order in which the prompts were passed."""

    heads: list[Head]
    hidden: Tensor  # [heads, prompts, d_model], after the final norm, at the last prompt position
    log_probs: Tensor  # [heads, prompts, d_vocab], float32, natural logarithm


def tokens_at_once(device: torch.device) -> int:
    """Tokens in a batch of the sweep."""
    return TOKENS_PER_BATCH * (1 if device.type == "cpu" else GPU_FACTOR)


@torch.inference_mode()
def plain_readout(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], intervention: Intervention = ()
) -> tuple[Tensor, Tensor]:
    """Hidden `[prompts, d_model]` and log-probabilities `[prompts, d_vocab]` by ordinary forward passes.

    The reference for Ships (eq. 9) and generalised Ships (eq. 11), and what the sweep is checked against.
    """
    groups = prompt_groups(prompts, 0, model.device)
    order = torch.tensor([i for group in groups for i in group.index]).argsort()
    hidden, log_probs = [], []
    for group in groups:
        rows = torch.arange(len(group.ids), device=model.device)
        with ablated(model, [intervention] * len(group.ids)):
            output = model(input_ids=group.ids, output_hidden_states=True, logits_to_keep=group.ids.shape[1])
        hidden.append(precise(output.hidden_states[-1][rows, group.lengths - 1]))
        log_probs.append(torch.log_softmax(precise(output.logits[rows, group.lengths - 1]), dim=-1))
    return torch.cat(hidden)[order], torch.cat(log_probs)[order]


class Sweep:
    """`run` ablates heads one at a time on top of `group`: empty for Ships, the heads chosen so far for Sahara."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        group: Intervention = (),
        tokens_per_batch: int | None = None,
        cache_gib: float = CACHE_GIB,
    ) -> None:
        self.model, self.tokens_per_batch = model, tokens_per_batch or tokens_at_once(model.device)
        self.trunk = Trunk(model, prompts, shared_prefix_length(prompts), group, cache_gib=cache_gib)

    def run(self, heads: Sequence[Head], ablation: Ablation) -> Iterator[Readout]:
        """Yield the readouts of `heads`, some heads of one layer at a time, lowest layer first.

        Where memory runs out on a device, batches are halved. Raises UserError if a single head does not fit.
        """
        n_layers = self.model.config.get_text_config().num_hidden_layers
        longest = max(group.ids.numel() for group in self.trunk.groups)
        waiting, size = sorted(heads), max(1, self.tokens_per_batch // longest)
        work = sum(n_layers - head.layer for head in heads)
        with tqdm(total=work, desc=f"{ablation.kind} sweep", unit="block", mininterval=5) as progress:
            while waiting:
                layer = waiting[0].layer
                batch = [head for head in waiting[:size] if head.layer == layer]
                try:
                    readout = self._ablate(layer, batch, ablation)
                except torch.OutOfMemoryError as error:
                    if len(batch) == 1:
                        raise UserError(
                            "one head does not fit into the device's memory; score fewer queries"
                        ) from error
                    size = len(batch) // 2
                    logger.warning("out of memory: %d heads at a time from here on", size)
                    continue
                yield readout
                waiting = waiting[len(batch) :]
                progress.update(len(batch) * (n_layers - layer))

    @torch.inference_mode()
    def _ablate(self, layer: int, heads: list[Head], ablation: Ablation) -> Readout:
        trunk, n = self.trunk, len(heads)
        interventions = [(*trunk.group, (head, ablation)) for head in heads]
        prefixes = trunk.branch_prefix(layer, interventions)
        hidden, log_probs = [], []
        for place, group in enumerate(trunk.groups):
            owner = torch.arange(n).repeat_interleave(len(group.ids))  # of each row: which head
            of_rows = [interventions[i] for i in owner.tolist()]
            rows, last = torch.arange(len(group.ids)).repeat(n), (group.lengths - 1).repeat(n)[:, None]
            wide = widened(prefixes, owner, layer)
            residual, _ = trunk.branch(place, layer, rows, of_rows, wide, last, keep_keys=False)
            for kept, new in zip((hidden, log_probs), read_out(self.model, residual[:, 0]), strict=True):
                kept.append(new.unflatten(0, (n, len(group.ids))))
        order = torch.tensor([i for group in trunk.groups for i in group.index]).argsort()
        return Readout(heads, torch.cat(hidden, 1)[:, order], torch.cat(log_probs, 1)[:, order])
