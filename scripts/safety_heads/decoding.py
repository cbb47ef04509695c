"""Decoding token by token, every row with its own ablation, decoding and luck; rows that are done leave the batch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from safety_heads.attention import ablated
from safety_heads.errors import UserError
from safety_heads.heads import AblatedHead
from safety_heads.prompts import shared_prefix_length


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
    prompt: tuple[int, ...]
    intervention: tuple[AblatedHead, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", tuple(self.prompt))  # lists are taken as well, and have no hash


@dataclass(eq=False)
class Answer:
    """An answer in the making. `uniform` `[max_new_tokens]` is the luck of each step."""

    request: Request
    decoding: Decoding
    uniform: np.ndarray
    tokens: list[int] = field(default_factory=list)

    def add(self, token: int, ends: set[int]) -> bool:
        """Append a token; whether the answer goes on after it."""
        self.tokens.append(token)
        return token not in ends and len(self.tokens) < self.decoding.max_new_tokens


@dataclass
class Rows:
    """Answers that go on together. The last token of each is not in `cache` yet; `mask` `[rows, pos]` marks the real
    tokens that are, for the rows are padded on the left."""

    answers: list[Answer]
    cache: DynamicCache
    mask: Tensor

    def keep(self, places: Sequence[int]) -> None:
        """Drop all rows but those at `places`."""
        if len(places) < len(self.answers):
            index = torch.tensor(places, dtype=torch.long, device=self.mask.device)
            self.answers = [self.answers[place] for place in places]
            self.mask = self.mask[index]
            self.cache.batch_select_indices(index)


def new_answer(request: Request, decoding: Decoding, seed: int) -> Answer:
    """An empty answer with its luck."""
    return Answer(request, decoding, luck(seed, request.query_id, decoding.max_new_tokens))


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
def decode(model: PreTrainedModel, answers: Sequence[Answer], n_prefix: int, ends: set[int]) -> None:
    """Fill `answers` from their prompts, whose first `n_prefix` tokens are the same; each request is read once."""
    requests = list(dict.fromkeys(answer.request for answer in answers))
    places = {request: place for place, request in enumerate(requests)}
    index = torch.tensor([places[answer.request] for answer in answers], device=model.device)
    logits, cache, mask = _read_prompts(requests, n_prefix, model)
    cache.batch_select_indices(index)
    rows = Rows(list(answers), cache, mask[index])
    rows.keep(_add_tokens(rows.answers, logits[index], ends))
    go_on(model, rows, ends)


@torch.inference_mode()
def go_on(model: PreTrainedModel, rows: Rows, ends: set[int]) -> None:
    """Decode until every answer has ended."""
    while rows.answers:
        rows.mask = torch.cat([rows.mask, rows.mask.new_ones(len(rows.answers), 1)], dim=1)
        tokens = torch.tensor([[answer.tokens[-1]] for answer in rows.answers], device=model.device)
        interventions = [answer.request.intervention for answer in rows.answers]
        logits = _last_logits(model, tokens, rows.mask, rows.cache, interventions)
        rows.keep(_add_tokens(rows.answers, logits, ends))


def _add_tokens(answers: Sequence[Answer], logits: Tensor, ends: set[int]) -> list[int]:
    """Give each answer its next token by `logits` `[rows, d_vocab]`; the places of those that go on."""
    chosen = [0] * len(answers)
    for decoding in {answer.decoding for answer in answers}:  # each sees its own rows only: logits are wide
        rows = [row for row, answer in enumerate(answers) if answer.decoding == decoding]
        uniform = torch.tensor([answers[row].uniform[len(answers[row].tokens)] for row in rows], device=logits.device)
        for row, token in zip(rows, pick(logits[rows], uniform, decoding).tolist(), strict=True):
            chosen[row] = token
    return [row for row, answer in enumerate(answers) if answer.add(chosen[row], ends)]


def shareable_prefix(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> int:
    """How many leading tokens need to be run only once for all prompts."""
    # Windows count padding as distance, so with them the padding must stay in front of the whole prompt.
    windowed = getattr(model.config.get_text_config(), "sliding_window", None) is not None
    return 0 if windowed else shared_prefix_length(prompts)


def _read_prompts(
    requests: Sequence[Request], n_prefix: int, model: PreTrainedModel
) -> tuple[Tensor, DynamicCache, Tensor]:
    """Logits after each prompt `[rows, d_vocab]`, the filled cache, and the mask `[rows, pos]` of real tokens."""
    cache = DynamicCache(config=model.config)
    ids, mask = left_padded([request.prompt[n_prefix:] for request in requests], model.device)
    if n_prefix:
        interventions = list(dict.fromkeys(request.intervention for request in requests))
        places = {intervention: place for place, intervention in enumerate(interventions)}
        shared = torch.tensor([requests[0].prompt[:n_prefix]] * len(places), device=model.device)
        _last_logits(model, shared, torch.ones_like(shared), cache, interventions)
        cache.batch_select_indices(torch.tensor([places[r.intervention] for r in requests], device=model.device))
        mask = torch.cat([mask.new_ones(len(requests), n_prefix), mask], dim=1)
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
