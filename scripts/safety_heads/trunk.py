"""What all ablations of the same prompts have in common, computed once: every block's input, and the keys below.

Ablating a head of layer l changes nothing below l. So the inputs of all blocks are computed once per prompt and kept,
and rows with ablated heads branch off at their lowest ablated layer: only the blocks from there up are run again. By
causality the prompts' shared prefix (chat system prompt, template) does not depend on the query: it is run once per
intervention, and its keys and values serve all queries. Nothing is approximated.

Prompts are padded on the right. Causality makes that harmless (no real token sees a pad), and it keeps positions.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from safety_heads.attention import ablated
from safety_heads.blocks import Trace, record_blocks, run_blocks, widened
from safety_heads.heads import Intervention
from safety_heads.prompts import length_groups

TOKENS_PER_BATCH = 4096
CACHE_GIB = 4.0  # of block inputs kept in memory; more goes to temporary files


@dataclass
class PromptGroup:
    """Prompts of like length, without their shared prefix, padded on the right."""

    index: list[int]  # their places in the caller's list
    ids: Tensor  # [prompts, pos]
    lengths: Tensor  # [prompts], real tokens


class Store:
    """Keeps tensors, `gib` of them in memory and the others in memory-mapped files that end with the store."""

    def __init__(self, gib: float) -> None:
        self.free, self.folder = gib * 2**30, None

    def keep(self, tensor: Tensor) -> Tensor:
        """The same values, wherever there is room."""
        self.free -= tensor.nbytes
        if self.free >= 0:
            return tensor
        if self.folder is None:
            self.folder = tempfile.TemporaryDirectory(prefix="safety-heads-")
        name = Path(self.folder.name) / str(len(list(Path(self.folder.name).iterdir())))
        mapped = torch.from_file(str(name), shared=True, size=tensor.numel(), dtype=tensor.dtype)
        return mapped.view(tensor.shape).copy_(tensor)


def prompt_groups(prompts: Sequence[Sequence[int]], n_prefix: int, device: torch.device) -> list[PromptGroup]:
    """Prompts as padded suffixes of like length. The pad token's id is irrelevant: no real token sees it."""
    suffixes = [torch.tensor(prompt[n_prefix:], device=device) for prompt in prompts]
    groups = []
    for index in length_groups([len(suffix) for suffix in suffixes], most=TOKENS_PER_BATCH):
        chosen = [suffixes[i] for i in index]
        lengths = torch.tensor([len(suffix) for suffix in chosen], device=device)
        groups.append(PromptGroup(index, torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True), lengths))
    return groups


class Trunk:
    """One pass over `prompts`, whose first `n_prefix` tokens are the same, with `group` ablated in every row.

    `keep_keys` keeps the prompts' keys and values as well, for answers that go on from them. Of the block inputs
    `cache_gib` stay in memory.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        n_prefix: int,
        group: Intervention = (),
        keep_keys: bool = False,
        cache_gib: float = CACHE_GIB,
    ) -> None:
        self.store = Store(cache_gib)
        self.model, self.n_prefix, self.group = model, n_prefix, tuple(group)
        self.groups = prompt_groups(prompts, n_prefix, model.device)
        self.caches: list[DynamicCache] = []  # per group, prefix included; empty unless keep_keys
        self.prefix_cache, self.prefix_trace = DynamicCache(), None
        with torch.inference_mode():
            if n_prefix:
                ids = torch.tensor([prompts[0][:n_prefix]], device=model.device)
                with ablated(model, [self.group]):
                    self.prefix_trace = record_blocks(model, ids, self.prefix_cache, self.store.keep)
            self.traces = [self._record(group.ids, keep_keys) for group in self.groups]

    def _record(self, ids: Tensor, keep_keys: bool) -> Trace:
        cache = widened(self.prefix_cache, torch.zeros(len(ids), dtype=torch.long))
        with ablated(self.model, [self.group] * len(ids)):
            trace = record_blocks(self.model, ids, cache, self.store.keep)
        if keep_keys:
            self.caches.append(cache)
        return trace

    def _on_device(self, kept: Tensor) -> Tensor:
        """What went to a file is in the host's memory; a model that is spread over devices moves the others itself."""
        return kept.to(self.model.device) if kept.device.type == "cpu" else kept

    def branch_prefix(self, layer: int, interventions: Sequence[Intervention]) -> DynamicCache:
        """The prefix's keys and values from `layer` up, one row per intervention, none of which reaches below."""
        cache = DynamicCache()
        if self.prefix_trace is not None:
            start = self._on_device(self.prefix_trace.inputs[layer]).expand(len(interventions), -1, -1)
            with ablated(self.model, interventions):
                run_blocks(self.model, layer, start, self.prefix_trace, cache)
        return cache

    def branch(
        self,
        place: int,
        layer: int,
        rows: Tensor,
        interventions: Sequence[Intervention],
        prefix: DynamicCache,
        read: Tensor,
        keep_keys: bool = True,
    ) -> tuple[Tensor, DynamicCache]:
        """Prompts `rows` of group `place`, each with its intervention, from `layer` up.

        `prefix` holds the rows' own prefix keys. Gives the residual stream after the last block at the suffix
        positions `read` `[rows, n]`, as `[rows, n, d_model]`, and the keys and values from `layer` up.
        """
        trace = self.traces[place]
        start = trace.inputs[layer]
        with ablated(self.model, interventions):
            start = self._on_device(start[rows.to(start.device)])
            residual = run_blocks(self.model, layer, start, trace, prefix, read, keep_keys)
        return residual, prefix
