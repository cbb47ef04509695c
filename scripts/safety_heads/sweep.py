"""The exact sweep: the last token's distribution and hidden state for every (head, prompt) pair.

Ablating a head of layer l changes nothing below l. So the inputs of all blocks are computed once per prompt and
kept, and for each head only block l and those above are run again. By causality the prompts' shared prefix (chat
system prompt, template) does not depend on the query: it is run once per head, and its keys and values serve all
queries. Many (head, prompt) pairs share a batch, each row with its own head ablated. Nothing is approximated: the
result equals a plain forward pass per head up to rounding.

Prompts are padded on the right. Causality makes that harmless (no real token sees a pad), and it keeps positions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import DynamicCache, PreTrainedModel

from safety_heads.attention import Ablation, Head, Intervention, ablated
from safety_heads.prompts import shared_prefix_length

TOKENS_PER_BATCH = 4096
LENGTH_SLACK = 1.15  # prompts share a batch while the longest is at most this much longer than the shortest


@dataclass
class Readout:
    """What the sweep gives for some heads on all prompts, in the order in which the prompts were passed."""

    heads: list[Head]
    hidden: Tensor  # [heads, prompts, d_model], after the final norm, at the last prompt position
    log_probs: Tensor  # [heads, prompts, d_vocab], float32, natural logarithm


@dataclass
class Trace:
    """What each block was called with in one pass over rows of equal (padded) length."""

    inputs: list[Tensor]  # per layer [rows, pos, d_model]
    kwargs: list[dict]  # per layer: mask, positions; the same for every row


@dataclass
class PromptGroup:
    """Prompts of like length, without their shared prefix, padded on the right."""

    index: list[int]  # their places in the caller's list
    ids: Tensor  # [prompts, pos]
    last: Tensor  # [prompts], position of the last real token


def length_groups(lengths: Sequence[int], slack: float = LENGTH_SLACK) -> list[list[int]]:
    """Indices of the prompts, grouped so that padding wastes little: longest <= slack x shortest in each group."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    groups: list[list[int]] = []
    for i in order:
        if groups and lengths[i] <= slack * lengths[groups[-1][0]]:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def prompt_groups(prompts: Sequence[Sequence[int]], prefix: int, device: torch.device) -> list[PromptGroup]:
    """Prompts as padded suffixes of like length. The pad token's id is irrelevant: no real token sees it."""
    suffixes = [torch.tensor(prompt[prefix:], device=device) for prompt in prompts]
    groups = []
    for index in length_groups([len(suffix) for suffix in suffixes]):
        chosen = [suffixes[i] for i in index]
        last = torch.tensor([len(suffix) - 1 for suffix in chosen], device=device)
        groups.append(PromptGroup(index, torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True), last))
    return groups


def row_independent(value: object, rows: int) -> object:
    """The first row of a per-row argument: without padding masks all rows have the same mask and positions."""
    if isinstance(value, tuple):
        return tuple(row_independent(item, rows) for item in value)
    if isinstance(value, Tensor) and value.ndim > 1 and value.shape[0] == rows:
        return value[:1]
    return value


def record_blocks(model: PreTrainedModel, ids: Tensor, cache: DynamicCache) -> Trace:
    """One pass of the decoder over `ids` `[rows, pos]` that keeps every block's input; `cache` grows by it."""
    trace = Trace([], [])

    def keep(_block, args: tuple, kwargs: dict) -> None:
        kwargs = dict(kwargs)
        hidden = args[0] if args else kwargs.pop("hidden_states")
        kwargs.pop("past_key_values", None)
        trace.inputs.append(hidden)
        trace.kwargs.append({name: row_independent(value, len(ids)) for name, value in kwargs.items()})

    hooks = [block.register_forward_pre_hook(keep, with_kwargs=True) for block in model.get_decoder().layers]
    try:
        model.get_decoder()(input_ids=ids, past_key_values=cache, use_cache=True)
    finally:
        for hook in hooks:
            hook.remove()
    return trace


def run_blocks(model: PreTrainedModel, layer: int, hidden: Tensor, trace: Trace, cache: DynamicCache) -> Tensor:
    """`hidden` `[rows, pos, d_model]` through block `layer` and all above it, in the setting of `trace`."""
    for depth, block in enumerate(model.get_decoder().layers[layer:], start=layer):
        hidden = block(hidden, past_key_values=cache, **trace.kwargs[depth])
    return hidden


def widened(cache: DynamicCache, index: Tensor, first_layer: int = 0) -> DynamicCache:
    """A cache whose row i is row `index[i]` of `cache`, for the layers from `first_layer` up."""
    wide = DynamicCache()
    for layer in range(first_layer, len(cache.layers)):
        wide.update(cache.layers[layer].keys[index], cache.layers[layer].values[index], layer)
    return wide


def read_out(model: PreTrainedModel, residual: Tensor) -> tuple[Tensor, Tensor]:
    """Final norm and unembedding of `[rows, d_model]`: hidden states, and log-probabilities in float32."""
    hidden = model.get_decoder().norm(residual)
    logits = model.get_output_embeddings()(hidden).float()
    return hidden.float(), torch.log_softmax(logits, dim=-1)


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
        hidden.append(output.hidden_states[-1][rows, group.last].float())
        log_probs.append(torch.log_softmax(output.logits[rows, group.last].float(), dim=-1))
    return torch.cat(hidden)[order], torch.cat(log_probs)[order]


class Sweep:
    """Block inputs of all prompts, kept once; `run` ablates heads one at a time on top of `group`.

    `group` is what is ablated in every row already: empty for Ships, the heads chosen so far for Sahara.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        group: Intervention = (),
        tokens_per_batch: int = TOKENS_PER_BATCH,
    ) -> None:
        self.model, self.group, self.tokens_per_batch = model, tuple(group), tokens_per_batch
        self.n_prompts, self.n_prefix = len(prompts), shared_prefix_length(prompts)
        self.prompt_groups = prompt_groups(prompts, self.n_prefix, model.device)
        self.prefix_cache, self.prefix_trace = DynamicCache(), None
        with torch.inference_mode():
            if self.n_prefix:
                ids = torch.tensor([prompts[0][: self.n_prefix]], device=model.device)
                with ablated(model, [self.group]):
                    self.prefix_trace = record_blocks(model, ids, self.prefix_cache)
            self.traces = [self._trace(group.ids) for group in self.prompt_groups]

    def _trace(self, ids: Tensor) -> Trace:
        cache = widened(self.prefix_cache, torch.zeros(len(ids), dtype=torch.long, device=ids.device))
        with ablated(self.model, [self.group] * len(ids)):
            return record_blocks(self.model, ids, cache)

    def run(self, heads: Sequence[Head], ablation: Ablation) -> Iterator[Readout]:
        """Yield the readouts of `heads`, some heads of one layer at a time, lowest layer first."""
        n_layers = self.model.config.get_text_config().num_hidden_layers
        longest = max(group.ids.numel() for group in self.prompt_groups)
        heads_per_batch = max(1, self.tokens_per_batch // longest)
        work = sum(n_layers - head.layer for head in heads)
        with tqdm(total=work, desc=f"{ablation.kind} sweep", unit="block", mininterval=5) as progress:
            for layer in sorted({head.layer for head in heads}):
                in_layer = sorted(head for head in heads if head.layer == layer)
                for start in range(0, len(in_layer), heads_per_batch):
                    batch = in_layer[start : start + heads_per_batch]
                    yield self._ablate(layer, batch, ablation)
                    progress.update(len(batch) * (n_layers - layer))

    @torch.inference_mode()
    def _ablate(self, layer: int, heads: list[Head], ablation: Ablation) -> Readout:
        interventions = [(*self.group, (head, ablation)) for head in heads]
        prefix_cache = self._ablate_prefix(layer, interventions)
        hidden, log_probs = [], []
        for group, trace in zip(self.prompt_groups, self.traces, strict=True):
            row_head = torch.arange(len(heads), device=self.model.device).repeat_interleave(len(group.ids))
            cache = widened(prefix_cache, row_head, layer)
            start = trace.inputs[layer].repeat(len(heads), 1, 1)
            with ablated(self.model, [interventions[i] for i in row_head.tolist()]):
                residual = run_blocks(self.model, layer, start, trace, cache)
            rows = torch.arange(len(residual), device=residual.device)
            for kept, new in zip(
                (hidden, log_probs), read_out(self.model, residual[rows, group.last.repeat(len(heads))]), strict=True
            ):
                kept.append(new.unflatten(0, (len(heads), len(group.ids))))
        order = torch.tensor([i for group in self.prompt_groups for i in group.index]).argsort()
        return Readout(heads, torch.cat(hidden, 1)[:, order], torch.cat(log_probs, 1)[:, order])

    def _ablate_prefix(self, layer: int, interventions: list[Intervention]) -> DynamicCache:
        """The prefix's keys and values from `layer` up, one row per intervention."""
        cache = DynamicCache()
        if self.prefix_trace is not None:
            start = self.prefix_trace.inputs[layer].repeat(len(interventions), 1, 1)
            with ablated(self.model, interventions):
                run_blocks(self.model, layer, start, self.prefix_trace, cache)
        return cache
