"""Ships, the safety head importance score, and the sign that it lacks (paper, section 3.2, eq. 9).

Ships(q, h) = KL( p(. | q; theta) || p(. | q; theta without h) ), in nats, over the whole vocabulary, p being the
next-token distribution at the last prompt position. It says how much a head matters, not in which direction: the
change of the log-odds that the first token opens a refusal is therefore given beside it. Below 0 the head carries
refusal, above 0 it suppresses it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) in nats over the last dimension of two broadcastable tensors of log-probabilities.

    No constant is added to the distributions (the published code adds 1e-12): log-softmax never gives log 0. Summed in
    float64, since most of 10^5 terms cancel; a rounding error below 0 becomes 0.
    """
    log_p, log_q = log_p.double(), log_q.double()
    return (log_p.exp() * (log_p - log_q)).sum(-1).clamp(min=0)


def refusal_log_odds(log_probs: Tensor, openings: Sequence[int]) -> Tensor:
    """log P(first token in `openings`) - log P(any other), from log-probabilities `[..., d_vocab]`; float64."""
    log_probs = log_probs.double()
    others = log_probs.index_fill(-1, torch.tensor(openings, device=log_probs.device), -torch.inf)
    return log_probs[..., list(openings)].logsumexp(-1) - others.logsumexp(-1)
