"""Running a decoder block by block: record what each block is given, and run the upper blocks again from there.

Works on the stock modules of transformers: whatever a block does (norms, rotary embedding, experts, windows) is its
own. Only three things are asked of an architecture: `get_decoder().layers`, a final norm, and attention that goes
through transformers' attention interface.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.modeling_outputs import MoeModelOutputWithPast

from safety_heads.attention import KeysCached, keys_only

_FINAL_NORMS = ("norm", "final_layer_norm")


@dataclass
class Trace:
    """What each block was given in one pass over rows of equal (padded) length."""

    inputs: list[Tensor]  # per layer [rows, pos, d_model]
    arguments: list[dict]  # per layer: mask, positions; the same for every row
    cache_name: str  # of the argument that takes the cache

    def at(self, layer: int, cache: DynamicCache) -> dict:
        """The keyword arguments of block `layer`, with `cache`."""
        return {**self.arguments[layer], self.cache_name: cache}


def record_blocks(
    model: PreTrainedModel, ids: Tensor, cache: DynamicCache, store: Callable[[Tensor], Tensor] = lambda tensor: tensor
) -> Trace:
    """One pass of the decoder over `ids` `[rows, pos]`; every block's input goes to `store`, and `cache` grows."""
    trace = Trace([], [], "past_key_values")

    def keep(_block, args: tuple, kwargs: dict) -> None:
        kwargs = dict(kwargs)
        hidden = args[0] if args else kwargs.pop("hidden_states")
        trace.cache_name = next((name for name, value in kwargs.items() if value is cache), trace.cache_name)
        kwargs.pop(trace.cache_name, None)
        trace.inputs.append(store(hidden))
        trace.arguments.append({name: _row_independent(value, len(ids)) for name, value in kwargs.items()})

    hooks = [block.register_forward_pre_hook(keep, with_kwargs=True) for block in model.get_decoder().layers]
    try:
        model.get_decoder()(input_ids=ids, past_key_values=cache, use_cache=True)
    finally:
        for hook in hooks:
            hook.remove()
    return trace


def _row_independent(value: object, rows: int) -> object:
    """The first row of a per-row argument: without padding masks all rows have the same mask and positions."""
    if isinstance(value, tuple):
        return tuple(_row_independent(item, rows) for item in value)
    if isinstance(value, Tensor) and value.ndim > 1 and value.shape[0] == rows:
        return value[:1]
    return value


def run_blocks(
    model: PreTrainedModel,
    layer: int,
    hidden: Tensor,
    trace: Trace,
    cache: DynamicCache,
    read: Tensor | None = None,
    keep_keys: bool = True,
) -> Tensor | None:
    """`hidden` `[rows, pos, d_model]` through block `layer` and all above it, in the setting of `trace`.

    The last block is run for the positions `read` `[rows, n]` only: gives `[rows, n, d_model]`. Without `read`
    nothing but the keys and values that `cache` gains are of interest. Unless `keep_keys`, it loses those of a block
    as soon as that has run.
    """
    *below, last = model.get_decoder().layers
    for depth, block in enumerate(below[layer:], start=layer):
        hidden = block(hidden, **trace.at(depth, cache))
        if not keep_keys:
            cache.layers[depth].keys = cache.layers[depth].values = None
    try:
        with keys_only():
            last(hidden, **trace.at(len(below), cache))
    except KeysCached:
        pass
    if read is None:
        return None
    return _run_at(last, hidden, trace.at(len(below), cache), read.to(hidden.device), cache)


def _run_at(block: torch.nn.Module, hidden: Tensor, arguments: dict, read: Tensor, cache: DynamicCache) -> Tensor:
    """A block's output at the positions `read`, its keys and values being in `cache` already.

    The block caches the keys of those positions a second time; the mask hides these copies, and they are dropped.
    """
    n_new = hidden.shape[1]
    chosen = hidden.gather(1, read[:, :, None].expand(-1, -1, hidden.shape[2]))
    arguments = {name: _at_positions(value, read, n_new) for name, value in arguments.items()}
    layer = len(cache.layers) - 1
    kept = cache.layers[layer].keys, cache.layers[layer].values
    n_keys = kept[0].shape[-2]
    sees = arguments.get("attention_mask")
    if sees is None:
        sees = torch.arange(n_keys, device=read.device) <= (read + n_keys - n_new)[:, None, :, None]
    copies = sees.new_zeros((*sees.shape[:-1], read.shape[1]))
    output = block(chosen, **{**arguments, "attention_mask": torch.cat([sees, copies], -1)})
    cache.layers[layer].keys, cache.layers[layer].values = kept
    return output


def _at_positions(value: object, read: Tensor, n_new: int) -> object:
    """An argument that has one entry per new position (`[1, pos, ...]`, or a mask `[1, 1, pos, keys]`), at `read`."""
    if isinstance(value, tuple):
        return tuple(_at_positions(item, read, n_new) for item in value)
    if isinstance(value, Tensor) and value.ndim in (2, 3) and value.shape[1] == n_new:
        return value[0][read]
    if isinstance(value, Tensor) and value.ndim == 4 and value.shape[2] == n_new:
        return value[0, 0][read][:, None]
    return value


def widened(cache: DynamicCache, index: Tensor, first_layer: int = 0) -> DynamicCache:
    """A cache whose row i is row `index[i]` of `cache`, for the layers from `first_layer` up."""
    wide = DynamicCache()
    for layer in range(first_layer, len(cache.layers)):
        keys, values = cache.layers[layer].keys, cache.layers[layer].values
        rows = index.to(keys.device)
        wide.update(keys[rows], values[rows], layer)
    return wide


def final_norm(model: PreTrainedModel) -> torch.nn.Module:
    """What stands between the last block and the unembedding."""
    decoder = model.get_decoder()
    return next(getattr(decoder, name) for name in _FINAL_NORMS if hasattr(decoder, name))


def read_out(model: PreTrainedModel, residual: Tensor) -> tuple[Tensor, Tensor]:
    """Final norm and unembedding of `[rows, d_model]`: hidden states, and log-probabilities, at least float32.

    The model's own head does the unembedding, for some scale or cap their logits.
    """
    hidden = final_norm(model)(residual)
    log_probs = torch.log_softmax(precise(unembed(model, hidden)), dim=-1)
    return precise(hidden), log_probs


def unembed(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """The logits `[rows, d_vocab]` that `model` makes of its decoder's output `[rows, d_model]`."""
    decoder = model.get_decoder()
    own = decoder.__dict__.get("forward")
    decoder.forward = lambda *_args, **_kwargs: MoeModelOutputWithPast(last_hidden_state=hidden[:, None])
    try:
        return model(input_ids=torch.zeros(len(hidden), 1, dtype=torch.long, device=hidden.device)).logits[:, 0]
    finally:
        if own is None:
            del decoder.forward
        else:
            decoder.forward = own


def precise(tensor: Tensor) -> Tensor:
    """In float32, or float64 if it is so already."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
