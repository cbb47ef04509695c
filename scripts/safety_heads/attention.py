"""Ablation of attention heads at run time, one choice of heads per batch row (paper, section 3.1).

One attention function, registered through transformers' public attention interface, scales the query of a
head (undifferentiated attention, UA) or its output z (scaling contribution, SC), or puts the mean over the layer's
heads in the place of z. It acts after projections, norms and rotary embedding, so it is right for grouped-query
attention, q/k norms and fused projections: the q and z that it changes belong to one *query* head, never to its
key-value group. Model weights are never touched.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from safety_heads.errors import UserError
from safety_heads.heads import Intervention

IMPLEMENTATION = "safety_heads"


@dataclass
class LayerScales:
    """Factors for one layer, each `[rows, n_heads]`: of q and z (1 = as it is), and of the layer's mean z (0)."""

    q: Tensor
    z: Tensor
    mean: Tensor | None = None  # None: no row needs it


_active: ContextVar[dict[int, LayerScales] | None] = ContextVar("active_scales", default=None)
_keys_only: ContextVar[bool] = ContextVar("keys_only", default=False)


class KeysCached(Exception):  # noqa: N818 - a signal, not an error
    """Within `keys_only`: this layer's keys and values are in the cache, and no more of it was asked for."""


def ablatable_attention(module, query, key, value, attention_mask, **kwargs) -> tuple[Tensor, None]:
    """Scaled-dot-product attention with the active ablation: query `[rows, n_heads, pos, d_head]`."""
    if _keys_only.get():
        raise KeysCached
    scales = (_active.get() or {}).get(module.layer_idx)
    if scales is None:
        return _attend(module, query, key, value, attention_mask, **kwargs), None
    query = query * scales.q[:, :, None, None].to(query)
    z = _attend(module, query, key, value, attention_mask, **kwargs)  # [rows, pos, n_heads, d_head]
    changed = z * scales.z[:, None, :, None].to(z)
    if scales.mean is not None:
        changed = changed + z.mean(2, keepdim=True) * scales.mean[:, None, :, None].to(z)
    return changed, None


def _attend(module, query, key, value, mask, **kwargs) -> Tensor:
    """z `[rows, pos, n_heads, d_head]` by torch's fused attention, or step by step where that lacks a part."""
    if kwargs.get("softcap") is None and kwargs.get("s_aux") is None:
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)[0]
    return _attend_step_by_step(query, key, value, mask, kwargs["scaling"], kwargs.get("softcap"), kwargs.get("s_aux"))


def _attend_step_by_step(query, key, value, mask, scaling: float, cap: float | None, sinks: Tensor | None) -> Tensor:
    """z where the logits are soft-capped (Gemma 2), or a learned sink per head takes weight (gpt-oss)."""
    key, value = (tensor.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for tensor in (key, value))
    return (attention_pattern(query, key, mask, scaling, cap, sinks).to(value) @ value).transpose(1, 2)


def attention_pattern(query, key, mask, scaling: float, cap: float | None, sinks: Tensor | None) -> Tensor:
    """The weights `[rows, n_heads, pos, keys]`, at least float32, of query and key with as many heads each.

    `mask` is true where a key is visible (None: causal), `cap` soft-caps the logits, `sinks` `[n_heads]` take weight.
    """
    n_queries, n_keys = query.shape[2], key.shape[2]
    if mask is None:
        mask = torch.ones(n_queries, n_keys, dtype=torch.bool, device=query.device).tril(n_keys - n_queries)
    logits = query @ key.transpose(2, 3) * scaling
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    if sinks is not None:
        logits = torch.cat([logits, sinks.reshape(1, -1, 1, 1).expand(*logits.shape[:3], 1).to(logits)], dim=-1)
    return logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))[..., :n_keys]


# A custom attention function gets no causal mask at all unless its name is registered here as well.
AttentionInterface.register(IMPLEMENTATION, ablatable_attention)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)


def layer_scales(rows: Sequence[Intervention], n_heads: int) -> dict[int, LayerScales]:
    """The factors per ablated layer for a batch in which row i has `rows[i]` ablated."""
    scales: dict[int, LayerScales] = {}
    for row, intervention in enumerate(rows):
        for head, ablation in intervention:
            if not 0 <= head.head < n_heads:
                raise UserError(f"head {head} does not exist: the model has {n_heads} heads per layer, from 0")
            if head.layer not in scales:
                scales[head.layer] = LayerScales(torch.ones(len(rows), n_heads), torch.ones(len(rows), n_heads))
            layer = scales[head.layer]
            factor = layer.q if ablation.kind == "ua" else layer.z
            factor[row, head.head] = ablation.epsilon
            if ablation.kind == "mean":
                layer.mean = torch.zeros(len(rows), n_heads) if layer.mean is None else layer.mean
                layer.mean[row, head.head] = 1
    return scales


@contextmanager
def keys_only() -> Iterator[None]:
    """Within the block, attention layers fill the cache with their keys and values and then raise KeysCached."""
    token = _keys_only.set(True)
    try:
        yield
    finally:
        _keys_only.reset(token)


@contextmanager
def ablated(model: PreTrainedModel, rows: Sequence[Intervention]) -> Iterator[None]:
    """Within the block, batch row i of every forward pass of `model` runs with the heads `rows[i]` ablated."""
    if any(rows) and model.config._attn_implementation != IMPLEMENTATION:
        raise UserError("the model was not loaded through safety_heads.models.load, so its heads cannot be ablated")
    config = model.config.get_text_config()
    deepest = max((head.layer for row in rows for head, _ in row), default=0)
    if deepest >= config.num_hidden_layers:
        raise UserError(f"layer {deepest} does not exist: the model has {config.num_hidden_layers} layers, from 0")
    scales = layer_scales(rows, config.num_attention_heads)
    for layer in scales.values():  # once per batch, not at every decoding step
        layer.q, layer.z = layer.q.to(model.device), layer.z.to(model.device)
        layer.mean = None if layer.mean is None else layer.mean.to(model.device)
    token = _active.set(scales)
    try:
        yield
    finally:
        _active.reset(token)
