"""Which tokens open a refusal, found among the model's own refusals instead of being guessed."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safety_heads.decoding import Decoding, Request
from safety_heads.generation import generate
from safety_heads.judges.keyword import judge

LEAST_SHARE = 0.05  # of the refusals; rarer openings are as likely to be chance
JUDGE = "keyword-paper"


def refusal_openings(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> pd.DataFrame:
    """Token ids that open at least 5 % of the refusals among the greedy answers to `prompts`.

    Columns: token_id, token, n (refusals that it opens), most frequent first. Empty if the model refuses nothing.
    """
    requests = [Request(str(place), prompt) for place, prompt in enumerate(prompts)]
    [answers] = generate(model, tokenizer, requests, [Decoding("greedy", max_new_tokens)], seed=0)
    verdicts = judge(JUDGE, [""] * len(answers), [answer.text for answer in answers])
    refusals = [a.first_token for a, verdict in zip(answers, verdicts, strict=True) if verdict.verdict == "refused"]
    found = [(token, n) for token, n in Counter(refusals).most_common() if n >= LEAST_SHARE * len(refusals)]
    return pd.DataFrame(
        {
            "token_id": [token for token, _ in found],
            "token": [tokenizer.decode([token]) for token, _ in found],
            "n": [n for _, n in found],
        }
    )
