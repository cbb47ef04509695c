"""How many operations an exact sweep cannot do without: the yardstick for the engine, and its price before a run.

One multiplication and one addition per weight and token. T tokens of a prompt, p of them in the prefix that all
prompts share, d = d_model, a = n_heads x d_head, L = n_layers. Attention pairs are counted once each (causal).
The ablation of a head of layer l leaves everything below l alone, so it costs

- layer l: the head's own attention, its change of the attention's output (2 d_head d per token) and the MLP;
- blocks l+1 .. L-2: in full, for every token;
- block L-1: keys and values of every token, the rest for the last position only;
- the unembedding of the last position.

The prefix is run once per head, the rest of each prompt once per head and prompt.
"""

from collections.abc import Sequence

from safety_heads.heads import Head
from safety_heads.shapes import ModelShape


def block_flops(shape: ModelShape) -> int:
    """Weight operations of one block per token."""
    return 2 * shape.n_block_weights


def key_flops(shape: ModelShape) -> int:
    """Those of its key and value projections."""
    return 4 * shape.d_model * shape.n_kv_heads * shape.d_head


def mlp_flops(shape: ModelShape) -> int:
    """Those outside attention: all but q, k, v and the output projection."""
    return block_flops(shape) - key_flops(shape) - 4 * shape.d_model * shape.n_heads * shape.d_head


def pair_flops(shape: ModelShape) -> int:
    """Operations of one head for one (query position, key position): logit and weighted value."""
    return 4 * shape.d_head


def forward_flops(shape: ModelShape, length: int) -> float:
    """A plain forward pass over one prompt, with the last position's logits only."""
    pairs = length * (length + 1) / 2
    blocks = length * block_flops(shape) + shape.n_heads * pair_flops(shape) * pairs
    return shape.n_layers * blocks + 2 * shape.d_model * shape.d_vocab


def sweep_flops(shape: ModelShape, lengths: Sequence[int], n_prefix: int, heads: Sequence[Head]) -> float:
    """The least operations of an exact sweep of `heads` over prompts of `lengths` tokens."""
    n_tokens = n_prefix + sum(length - n_prefix for length in lengths)
    prefix_pairs = n_prefix * (n_prefix + 1) / 2
    pairs = prefix_pairs + sum(length * (length + 1) / 2 - prefix_pairs for length in lengths)
    last_pairs = sum(lengths)
    own = 2 * shape.d_head * shape.d_model + mlp_flops(shape)  # per token, in the ablated head's layer
    whole = n_tokens * block_flops(shape) + shape.n_heads * pair_flops(shape) * pairs
    last = n_tokens * key_flops(shape) + len(lengths) * (block_flops(shape) - key_flops(shape))
    last += shape.n_heads * pair_flops(shape) * last_pairs
    total = 0.0
    for head in heads:
        above = shape.n_layers - 1 - head.layer
        if above:
            total += n_tokens * own + pair_flops(shape) * pairs + (above - 1) * whole + last
        else:
            total += len(lengths) * own + pair_flops(shape) * last_pairs
        total += len(lengths) * 2 * shape.d_model * shape.d_vocab
    return total
