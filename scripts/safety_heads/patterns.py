"""A head's attention pattern as its q, k or v is scaled down, or its q or k replaced by the heads' mean (figs. 7, 8).

For one head, scaling q is scaling k. v has no part in the pattern, so scaling it leaves the pattern as it is.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import pandas as pd
import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask

from safety_heads import attention
from safety_heads.errors import UserError
from safety_heads.heads import Head

EPSILONS = (1.0, 5e-1, 1e-3, 1e-10)  # 1: the head as it is; the others are the paper's
RECORDING = "safety_heads_recording"
_recorded: ContextVar[dict] = ContextVar("recorded")


def _record(module, query, key, value, attention_mask, **kwargs) -> tuple[Tensor, None]:
    """Attention as ever, of which the layer asked for keeps its q, k, mask and scaling."""
    wanted = _recorded.get()
    if module.layer_idx == wanted["layer"]:
        wanted |= {"q": query, "k": key, "mask": attention_mask, "scaling": kwargs["scaling"]}
        wanted |= {"cap": kwargs.get("softcap"), "sinks": kwargs.get("s_aux")}
    return attention.ablatable_attention(module, query, key, value, attention_mask, **kwargs)


AttentionInterface.register(RECORDING, _record)
AttentionMaskInterface.register(RECORDING, sdpa_mask)


@contextmanager
def _recording(model: PreTrainedModel, layer: int) -> Iterator[dict]:
    before, recorded = model.config._attn_implementation, {"layer": layer}
    token = _recorded.set(recorded)
    model.set_attn_implementation(RECORDING)
    try:
        yield recorded
    finally:
        model.set_attn_implementation(before)
        _recorded.reset(token)


@torch.inference_mode()
def head_patterns(
    model: PreTrainedModel, prompt: Sequence[int], head: Head, epsilons: Sequence[float] = EPSILONS
) -> dict[tuple[str, float], Tensor]:
    """The pattern `[pos, pos]` of `head` on `prompt`, float32, by what is scaled (q, k, v; epsilon) or replaced.

    `mean q` and `mean k` (epsilon 0) put the mean over the layer's heads in the place of the head's own.
    Raises UserError for a head that the model has not.
    """
    with _recording(model, head.layer) as found:
        model(input_ids=torch.tensor([list(prompt)], device=model.device))
    if "q" not in found or head.head >= found["q"].shape[1]:
        raise UserError(f"head {head} does not exist in this model")
    q, k = found["q"][0].float(), found["k"][0].float()  # [heads, pos, d_head]
    k = k.repeat_interleave(len(q) // len(k), dim=0)
    own_q, own_k = q[head.head], k[head.head]
    patterns = {}
    for epsilon in epsilons:
        patterns |= {("q", epsilon): (own_q * epsilon, own_k), ("k", epsilon): (own_q, own_k * epsilon)}
        patterns["v", epsilon] = own_q, own_k
    patterns |= {("mean q", 0.0): (q.mean(0), own_k), ("mean k", 0.0): (own_q, k.mean(0))}
    return {how: _pattern(one, other, found, head.head) for how, (one, other) in patterns.items()}


def _pattern(q: Tensor, k: Tensor, found: dict, head: int) -> Tensor:
    sinks = None if found["sinks"] is None else found["sinks"][head]
    pattern = attention.attention_pattern(
        q[None, None], k[None, None], found["mask"], found["scaling"], found["cap"], sinks
    )
    return pattern[0, 0]


def pattern_rows(patterns: dict[tuple[str, float], Tensor]) -> pd.DataFrame:
    """The lower triangles as rows (scaled, epsilon, row, column, weight)."""
    frames = []
    for (scaled, epsilon), pattern in patterns.items():
        row, column = torch.tril_indices(*pattern.shape).tolist()
        entries = {"row": row, "column": column, "weight": pattern[row, column].tolist()}
        frames.append(pd.DataFrame(entries).assign(scaled=scaled, epsilon=epsilon))
    return pd.concat(frames, ignore_index=True)
