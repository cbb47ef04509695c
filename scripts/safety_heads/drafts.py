"""Answers with heads ablated, from the unchanged model's answers as drafts (speculative decoding, exact).

Most ablations leave most of an answer as it is. So prompt and draft are run together, once, through the blocks from
the lowest ablated one up, which gives the ablated model's choice at every step of the draft. As long as the choice is
the draft's, it is the answer. A row that departs from its draft is decoded token by token from there, with the keys
and values that the pass has left. Sampled answers are drafted as well, for their luck is the query's own.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel

from safety_heads.blocks import final_norm, unembed, widened
from safety_heads.decoding import Answer, Decoding, Request, Rows, go_on, pick
from safety_heads.heads import Intervention
from safety_heads.prompts import shared_prefix_length
from safety_heads.trunk import TOKENS_PER_BATCH, Trunk

INTERVENTIONS_PER_CHUNK = 32  # whose prefix keys are held together
POSITIONS_PER_PIECE = 512  # whose logits are held together


@dataclass(eq=False)
class Row:
    """A request with one draft, which several decodings may share. Nothing below block `layer` is ablated."""

    request: Request
    draft: tuple[int, ...]
    answers: list[Answer]
    layer: int


class Drafts:
    """Fills answers to requests with an intervention; each is paired with its draft, a finished answer's tokens."""

    def __init__(
        self,
        model: PreTrainedModel,
        drafted: Sequence[tuple[Answer, tuple[int, ...]]],
        ends: set[int],
        rows_per_batch: int,
    ) -> None:
        self.model, self.ends, self.rows_per_batch = model, ends, rows_per_batch
        shared: dict[tuple[Request, tuple[int, ...]], list[Answer]] = defaultdict(list)
        for answer, draft in drafted:
            shared[answer.request, draft].append(answer)
        self.rows = [
            Row(request, draft, answers, min(head.layer for head, _ in request.intervention))
            for (request, draft), answers in shared.items()
        ]
        sequences = list(dict.fromkeys((row.request.prompt, row.draft) for row in self.rows))
        n_prefix = shared_prefix_length([prompt for prompt, _ in sequences])
        self.trunk = Trunk(model, [[*prompt, *draft[:-1]] for prompt, draft in sequences], n_prefix, keep_keys=True)
        self.places = {  # of each sequence: its group, and its row there
            sequences[index]: (place, row)
            for place, group in enumerate(self.trunk.groups)
            for row, index in enumerate(group.index)
        }
        self.waiting: list[Rows] = []

    @torch.inference_mode()
    def run(self, done: Callable[[int], None]) -> None:
        """Fill all answers; `done` is told how many more have been begun."""
        for layer, rows in groupby(sorted(self.rows, key=lambda row: row.layer), key=lambda row: row.layer):
            for interventions, chunk in _chunks(list(rows)):
                prefixes = self.trunk.branch_prefix(layer, interventions)
                for place, batch in self._batches(chunk):
                    owner = torch.tensor([interventions.index(row.request.intervention) for row in batch])
                    self._follow(place, batch, widened(prefixes, owner, layer))
                    done(sum(len(row.answers) for row in batch))
        self._go_on()

    def _batches(self, rows: Sequence[Row]) -> Iterator[tuple[int, list[Row]]]:
        by_place = defaultdict(list)
        for row in rows:
            by_place[self.places[row.request.prompt, row.draft][0]].append(row)
        for place, of_place in by_place.items():
            size = max(1, TOKENS_PER_BATCH // self.trunk.groups[place].ids.shape[1])
            yield from ((place, of_place[i : i + size]) for i in range(0, len(of_place), size))

    def _follow(self, place: int, batch: Sequence[Row], prefix: DynamicCache) -> None:
        """Run drafts of one group through the blocks, take what agrees, and queue what departs."""
        in_group = torch.tensor([self.places[row.request.prompt, row.draft][1] for row in batch])
        read = _read_positions(batch, self.trunk.n_prefix).to(self.model.device)
        interventions = [row.request.intervention for row in batch]
        residual, cache = self.trunk.branch(place, batch[0].layer, in_group, interventions, prefix, read)
        choices = self._choices(residual, batch)
        departed: list[tuple[int, Answer]] = []
        for number, row in enumerate(batch):
            for answer in row.answers:
                if _take(answer, choices[answer.decoding][number], row.draft, self.ends):
                    departed.append((number, answer))
        if departed:
            numbers = torch.tensor([number for number, _ in departed])
            keys = self._keys(place, batch[0].layer, in_group[numbers], cache, numbers)
            self.waiting.append(_rows([answer for _, answer in departed], keys))
            if sum(len(rows.answers) for rows in self.waiting) >= self.rows_per_batch:
                self._go_on()

    def _choices(self, residual: Tensor, batch: Sequence[Row]) -> dict[Decoding, list[list[int]]]:
        """Per decoding, the ablated model's choice at each position of each row, from `[rows, pos, d_model]`."""
        n_rows, n = residual.shape[:2]
        uniform = {
            answer.decoding: torch.zeros(n_rows, n, dtype=torch.float64) for row in batch for answer in row.answers
        }
        for number, row in enumerate(batch):
            for answer in row.answers:
                uniform[answer.decoding][number, : len(row.draft)] = torch.tensor(answer.uniform[: len(row.draft)])
        chosen: dict[Decoding, list[Tensor]] = {decoding: [] for decoding in uniform}
        flat = residual.flatten(0, 1)
        for start in range(0, len(flat), POSITIONS_PER_PIECE):
            piece = slice(start, start + POSITIONS_PER_PIECE)
            logits = unembed(self.model, final_norm(self.model)(flat[piece]))
            for decoding, luck in uniform.items():
                chosen[decoding].append(pick(logits, luck.flatten()[piece].to(logits.device), decoding))
        return {decoding: torch.cat(parts).view(n_rows, n).tolist() for decoding, parts in chosen.items()}

    def _keys(
        self, place: int, layer: int, in_group: Tensor, cache: DynamicCache, numbers: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """All layers' keys and values of some rows: below `layer` the trunk's, from there up the rows' own."""
        below, own = self.trunk.caches[place].layers[:layer], cache.layers[layer:]
        return [(one.keys[in_group], one.values[in_group]) for one in below] + [
            (one.keys[numbers], one.values[numbers]) for one in own
        ]

    def _go_on(self) -> None:
        if self.waiting:
            go_on(self.model, _joined(self.waiting), self.ends)
        self.waiting = []


def _chunks(rows: Sequence[Row]) -> Iterator[tuple[list[Intervention], list[Row]]]:
    """Rows by their interventions, so many of these at a time."""
    interventions = list(dict.fromkeys(row.request.intervention for row in rows))
    for start in range(0, len(interventions), INTERVENTIONS_PER_CHUNK):
        some = interventions[start : start + INTERVENTIONS_PER_CHUNK]
        yield some, [row for row in rows if row.request.intervention in some]


def _read_positions(batch: Sequence[Row], n_prefix: int) -> Tensor:
    """Suffix positions `[rows, longest draft]` that predict the drafts' tokens; short drafts repeat their last."""
    first = torch.tensor([len(row.request.prompt) - n_prefix - 1 for row in batch])
    n = torch.tensor([len(row.draft) for row in batch])
    return first[:, None] + torch.minimum(torch.arange(int(n.max()))[None], n[:, None] - 1)


def _take(answer: Answer, choices: Sequence[int], draft: Sequence[int], ends: set[int]) -> bool:
    """Add the ablated model's choices up to the first that is not the draft's; whether the answer goes on."""
    for choice, drafted in zip(choices, draft, strict=False):
        goes_on = answer.add(choice, ends)
        if choice != drafted:
            return goes_on
    return False


def _rows(answers: list[Answer], keys: Sequence[tuple[Tensor, Tensor]]) -> Rows:
    """Rows padded on the left, from keys and values that begin with each row's prompt and end in rejected drafts."""
    device = keys[0][0].device
    lengths = torch.tensor([len(answer.request.prompt) + len(answer.tokens) - 1 for answer in answers], device=device)
    longest = int(lengths.max())
    index = torch.arange(longest, device=device)[None] - (longest - lengths[:, None])
    rows, cache = torch.arange(len(answers), device=device)[:, None], DynamicCache()
    for layer, (key, value) in enumerate(keys):
        at = index.clamp(min=0).to(key.device)
        picked = [tensor.transpose(1, 2)[rows.to(key.device), at].transpose(1, 2) for tensor in (key, value)]
        cache.update(*picked, layer)
    return Rows(answers, cache, (index >= 0).long())


def _joined(parts: Sequence[Rows]) -> Rows:
    """One batch from several, padded on the left to the longest."""
    longest = max(part.mask.shape[1] for part in parts)
    cache = DynamicCache()
    for layer in range(len(parts[0].cache.layers)):
        layers = [(part.cache.layers[layer], longest - part.mask.shape[1]) for part in parts]
        keys = torch.cat([pad(one.keys, (0, 0, n, 0)) for one, n in layers])
        cache.update(keys, torch.cat([pad(one.values, (0, 0, n, 0)) for one, n in layers]), layer)
    mask = torch.cat([pad(part.mask, (longest - part.mask.shape[1], 0)) for part in parts])
    return Rows([answer for part in parts for answer in part.answers], cache, mask)
