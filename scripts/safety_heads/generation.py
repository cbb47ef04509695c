"""Answers of a model with heads ablated, every row with its own (paper, appendix B).

The ablation holds for prompt and answer alike. A sampled token depends on the seed, the query and the step only, never
on the batch: the same query meets the same luck with every ablation. Each query is answered without ablation first;
that answer is the draft of the ablated ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safety_heads.decoding import Decoding, Request, decode, new_answer, shareable_prefix
from safety_heads.drafts import Drafts

ROWS_PER_BATCH = 96


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
    with_drafts: bool = True,
) -> list[list[Response]]:
    """For each decoding the answers in the order of `requests`.

    Without drafts all rows are decoded token by token: the same answers, more slowly, from any architecture
    (`selfcheck.check_model` tells whether a model can do with drafts).
    """
    ends, asked = end_tokens(model, tokenizer), list(dict.fromkeys(requests))
    drafted = [request for request in asked if request.intervention and with_drafts]
    decoded = [request for request in asked if not (request.intervention and with_drafts)]
    decoded = list(dict.fromkeys([*decoded, *map(unablated, drafted)]))
    answers = {(one, decoding): new_answer(one, decoding, seed) for one in decoded + drafted for decoding in decodings}
    with tqdm(total=len(answers), desc="generate", unit="answer", mininterval=5) as progress:
        n_prefix = shareable_prefix(model, [request.prompt for request in decoded])
        for batch in _batches(decoded, max(1, rows_per_batch // len(decodings))):
            rows = [answers[request, decoding] for request in batch for decoding in decodings]
            decode(model, rows, n_prefix, ends)
            progress.update(len(rows))
        pairs = [
            (answers[request, decoding], tuple(answers[unablated(request), decoding].tokens))
            for request in drafted
            for decoding in decodings
        ]
        if pairs:
            Drafts(model, pairs, ends, rows_per_batch).run(progress.update)
    return [
        [_response(answers[request, decoding].tokens, tokenizer, ends) for request in requests]
        for decoding in decodings
    ]


def unablated(request: Request) -> Request:
    """The same prompt, with the same luck, for the unchanged model."""
    return replace(request, intervention=())


def _batches(requests: Sequence[Request], size: int) -> Iterator[list[Request]]:
    """Requests whose prompts are of like length, `size` at a time."""
    in_order = sorted(requests, key=lambda request: len(request.prompt))
    yield from (in_order[start : start + size] for start in range(0, len(in_order), size))


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids that end an answer: the generation config's and the tokenizer's."""
    configured = model.generation_config.eos_token_id
    configured = configured if isinstance(configured, list) else [configured]
    return {token for token in (*configured, tokenizer.eos_token_id) if token is not None}


def _response(tokens: list[int], tokenizer: PreTrainedTokenizerBase, ends: set[int]) -> Response:
    ended = tokens[-1] in ends
    text = tokenizer.decode(tokens[:-1] if ended else tokens, skip_special_tokens=True)
    return Response(text.strip(), len(tokens) - ended, "end" if ended else "length", tokens[0])
