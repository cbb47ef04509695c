"""Batched decoding in which every row has its own heads ablated (paper, appendix B).

The ablation holds for prompt and answer alike. The prompts' shared prefix is run once per distinct intervention, a
prompt once for all decodings, and rows that are done leave the batch. A sampled token depends on the seed, the query
and the step only, never on the batch: the same query meets the same luck with every ablation.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from safety_heads.attention import AblatedHead, ablated
from safety_heads.errors import UserError
from safety_heads.prompts import shared_prefix_length

ROWS_PER_BATCH = 96


@dataclass(frozen=True)
class Decoding:
    """Greedy for `top_k` 1, else sampling among the `top_k` likeliest tokens at `temperature`."""

    name: str
    max_new_tokens: int
    top_k: int = 1
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if min(self.max_new_tokens, self.top_k) < 1 or self.temperature <= 0:
            raise UserError(f"decodings.{self.name}: max_new_tokens, top_k and temperature must be positive")


@dataclass(frozen=True)
class Request:
    """One prompt to answer: its token ids, what to ablate, and whose luck to draw."""

    query_id: str
    prompt: Sequence[int]
    intervention: tuple[AblatedHead, ...] = ()


@dataclass(frozen=True)
class Response:
    text: str
    n_tokens: int  # without the end token
    stop_reason: str  # end | length
    first_token: int


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Request],
    decodings: Sequence[Decoding],
    seed: int,
    rows_per_batch: int = ROWS_PER_BATCH,
) -> list[list[Response]]:
    """For each decoding the answers in the order of `requests`; prompts of like length share a batch."""
    ends = end_tokens(model, tokenizer)
    prefix = shareable_prefix(model, [request.prompt for request in requests])
    answers: list[list[list[int]]] = [[[] for _ in requests] for _ in decodings]
    order = sorted(range(len(requests)), key=lambda i: (len(requests[i].prompt), i))
    size = max(1, rows_per_batch // len(decodings))
    with tqdm(total=len(requests) * len(decodings), desc="generate", unit="answer", mininterval=5) as progress:
        for start in range(0, len(order), size):
            index = order[start : start + size]
            decoded = _decode([requests[i] for i in index], prefix, model, decodings, ends, seed)
            for row, tokens in enumerate(decoded):
                answers[row % len(decodings)][index[row // len(decodings)]] = tokens
            progress.update(len(decoded))
    return [[_response(tokens, tokenizer, ends) for tokens in of_decoding] for of_decoding in answers]


def shareable_prefix(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> int:
    """How many leading tokens need to be run only once for all prompts."""
    # Windows count padding as distance, so with them the padding must stay in front of the whole prompt.
    windowed = getattr(model.config.get_text_config(), "sliding_window", None) is not None
    return 0 if windowed else shared_prefix_length(prompts)


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids that end an answer: the generation config's and the tokenizer's."""
    configured = model.generation_config.eos_token_id
    configured = configured if isinstance(configured, list) else [configured]
    return {token for token in (*configured, tokenizer.eos_token_id) if token is not None}


def luck(seed: int, query_id: str, steps: int) -> np.ndarray:
    """Uniform numbers in [0, 1), one per decoding step."""
    digest = hashlib.sha256(f"{seed}:{query_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little")).random(steps)


def pick(logits: Tensor, uniform: Tensor, decoding: Decoding) -> Tensor:
    """Next tokens for `logits` `[rows, d_vocab]`: the likeliest, or by inverse transform among the top k."""
    if decoding.top_k == 1:
        return logits.argmax(-1)
    best, tokens = (logits.float() / decoding.temperature).topk(min(decoding.top_k, logits.shape[-1]), dim=-1)
    cumulative = best.softmax(-1).cumsum(-1)
    chosen = (cumulative < uniform[:, None]).sum(-1).clamp(max=tokens.shape[-1] - 1)
    return tokens.gather(1, chosen[:, None])[:, 0]


@torch.inference_mode()
def _decode(
    requests: Sequence[Request],
    prefix: int,
    model: PreTrainedModel,
    decodings: Sequence[Decoding],
    ends: set[int],
    seed: int,
) -> list[list[int]]:
    """The answers' token ids: all decodings of the first request, then of the second, and so on."""
    device, n_decodings = model.device, len(decodings)
    logits, cache, mask = _read_prompts(requests, prefix, model)
    cache.batch_repeat_interleave(n_decodings)
    logits, mask = logits.repeat_interleave(n_decodings, 0), mask.repeat_interleave(n_decodings, 0)
    longest = max(decoding.max_new_tokens for decoding in decodings)
    uniform = torch.tensor(np.stack([luck(seed, request.query_id, longest) for request in requests]), device=device)
    uniform = uniform.repeat_interleave(n_decodings, 0)
    answers: list[list[int]] = [[] for _ in range(len(requests) * n_decodings)]
    rows = torch.arange(len(answers), device=device)  # the answers still in the batch
    for step in range(longest):
        by_decoding = torch.stack([pick(logits, uniform[rows, step], decoding) for decoding in decodings])
        tokens = by_decoding.gather(0, (rows % n_decodings)[None])[0]
        going = []
        for place, (row, token) in enumerate(zip(rows.tolist(), tokens.tolist(), strict=True)):
            answers[row].append(token)
            if token not in ends and step + 1 < decodings[row % n_decodings].max_new_tokens:
                going.append(place)
        if not going:
            break
        if len(going) < len(rows):
            kept = torch.tensor(going, device=device)
            cache.batch_select_indices(kept)
            rows, mask, tokens = rows[kept], mask[kept], tokens[kept]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        interventions = [requests[row // n_decodings].intervention for row in rows.tolist()]
        logits = _last_logits(model, tokens[:, None], mask, cache, interventions)
    return answers


def _read_prompts(
    requests: Sequence[Request], prefix: int, model: PreTrainedModel
) -> tuple[Tensor, DynamicCache, Tensor]:
    """Logits after each prompt `[rows, d_vocab]`, the filled cache, and the mask `[rows, pos]` of real tokens."""
    cache = DynamicCache(config=model.config)
    ids, mask = left_padded([request.prompt[prefix:] for request in requests], model.device)
    if prefix:
        places = {request.intervention: 0 for request in requests}
        places = {intervention: place for place, intervention in enumerate(places)}
        shared = torch.tensor([requests[0].prompt[:prefix]] * len(places), device=model.device)
        _last_logits(model, shared, torch.ones_like(shared), cache, list(places))
        cache.batch_select_indices(torch.tensor([places[r.intervention] for r in requests], device=model.device))
        mask = torch.cat([mask.new_ones(len(requests), prefix), mask], dim=1)
    return _last_logits(model, ids, mask, cache, [request.intervention for request in requests]), cache, mask


def _last_logits(
    model: PreTrainedModel,
    ids: Tensor,
    mask: Tensor,
    cache: DynamicCache,
    interventions: Sequence[tuple[AblatedHead, ...]],
) -> Tensor:
    """Logits `[rows, d_vocab]` after `ids` `[rows, new]`; `mask` `[rows, pos]` covers the cached tokens as well."""
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    with ablated(model, interventions):
        return model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1
        ).logits[:, -1]


def left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask, both `[rows, pos]`, padded on the left so that all prompts end together."""
    longest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


def _response(tokens: list[int], tokenizer: PreTrainedTokenizerBase, ends: set[int]) -> Response:
    ended = tokens[-1] in ends
    text = tokenizer.decode(tokens[:-1] if ended else tokens, skip_special_tokens=True)
    return Response(text.strip(), len(tokens) - ended, "end" if ended else "length", tokens[0])
