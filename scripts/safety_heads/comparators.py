"""What the paper sets ablation beside (fig. 6b): a model pruned by Wanda or SparseGPT, in memory only.

Block after block, from the inputs that calibration texts give the blocks below it, already pruned. All linear layers
inside the blocks are pruned; embeddings and unembedding are not. Both methods know a layer by its weight and by `gram`:
X^T X, `[n_in, n_in]`, at least float32, of what it is given over all calibration tokens.
Wanda: Sun et al. 2024 (arXiv 2306.11695). SparseGPT: Frantar and Alistarh 2023 (arXiv 2301.00774), algorithm 1.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from safety_heads.blocks import record_blocks
from safety_heads.errors import UserError

COLUMNS = 128  # for how many columns at once SparseGPT chooses what goes
DAMPING = 0.01  # of the mean diagonal, added to the Hessian's


def wanda(weight: Tensor, gram: Tensor, sparsity: float) -> Tensor:
    """`weight` `[n_out, n_in]` without the `sparsity` share of each row that has the least |W_ij| * ||X_j||_2."""
    scores = weight.abs().to(gram) * gram.diagonal().sqrt()
    dropped = scores.argsort(dim=1, stable=True)[:, : round(sparsity * weight.shape[1])]
    return weight.scatter(1, dropped, 0.0)


def sparsegpt(weight: Tensor, gram: Tensor, sparsity: float) -> Tensor:
    """`weight` `[n_out, n_in]` without `sparsity` of its entries, the others moved to make up for them.

    Per `COLUMNS` columns the entries with the least w^2 / [H^-1]_jj^2 go (H^-1 as its upper Cholesky factor); going
    from left to right, each column's error is taken out by the columns right of it.
    """
    pruned = weight.to(gram, copy=True)
    factor = _inverse_factor(gram)
    pruned[:, gram.diagonal() == 0] = 0  # of no consequence on the calibration texts
    for start in range(0, pruned.shape[1], COLUMNS):
        end = min(start + COLUMNS, pruned.shape[1])
        scores = (pruned[:, start:end] / factor.diagonal()[start:end]) ** 2
        dropped = torch.zeros_like(scores, dtype=torch.bool)
        dropped.view(-1)[scores.flatten().argsort(stable=True)[: round(sparsity * scores.numel())]] = True
        errors = torch.zeros_like(scores)
        for column in range(start, end):
            gone = pruned[:, column] * dropped[:, column - start]
            errors[:, column - start] = gone / factor[column, column]
            pruned[:, column:end] -= errors[:, column - start, None] * factor[column, column:end]
            pruned[:, column].masked_fill_(dropped[:, column - start], 0)  # exactly
        pruned[:, end:] -= errors @ factor[start:end, end:]
    return pruned.to(weight)


def _inverse_factor(gram: Tensor) -> Tensor:
    """The upper Cholesky factor of the damped Hessian's inverse."""
    hessian = gram.clone()
    diagonal = hessian.diagonal()
    diagonal[diagonal == 0] = 1
    diagonal += DAMPING * diagonal.mean()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    return torch.linalg.cholesky(inverse, upper=True)


METHODS = {"wanda": wanda, "sparsegpt": sparsegpt}


def check_prunable(model: PreTrainedModel) -> None:
    """Raise UserError unless every block of the model has linear layers."""
    blocks = getattr(model.get_decoder(), "layers", ())
    if not blocks or not all(any(isinstance(part, nn.Linear) for part in block.modules()) for block in blocks):
        raise UserError(
            f"{type(model).__name__} has no blocks with linear layers, so it cannot be pruned; set helpfulness.pruning "
            f"to {{}}"
        )


@contextmanager
def pruned(model: PreTrainedModel, texts: Sequence[Sequence[int]], method: str, sparsity: float) -> Iterator[None]:
    """Within the block `model` is pruned; `texts` are token ids to calibrate on. Afterwards it is as it was.

    Raises UserError for a method that is unknown, no texts, or a model without linear layers.
    """
    if method not in METHODS:
        raise UserError(f"helpfulness.pruning.{method} is unknown; choose from {', '.join(METHODS)}")
    if not texts:
        raise UserError(f"{method} needs texts to calibrate on; lower helpfulness.examples")
    check_prunable(model)
    kept: dict[nn.Linear, Tensor] = {}
    try:
        _prune(model, texts, method, sparsity, kept)
        yield
    finally:
        for layer, weight in kept.items():
            layer.weight.data = weight


@torch.no_grad()
def _prune(model: PreTrainedModel, texts: Sequence[Sequence[int]], method: str, sparsity: float, kept: dict) -> None:
    hidden, arguments = [], []
    for text in texts:
        trace = record_blocks(model, torch.tensor([list(text)], device=model.device), DynamicCache())
        hidden.append(trace.inputs[0])
        arguments.append(trace.arguments)
    for depth, block in enumerate(model.get_decoder().layers):
        layers = [module for module in block.modules() if isinstance(module, nn.Linear)]
        given = [(state, own[depth]) for state, own in zip(hidden, arguments, strict=True)]
        for layer, gram in _grams(block, layers, given).items():
            kept[layer] = layer.weight.data
            layer.weight.data = METHODS[method](layer.weight.data, gram, sparsity)
        hidden = [block(state, **own) for state, own in given]


def _grams(
    block: nn.Module, layers: Sequence[nn.Linear], given: Sequence[tuple[Tensor, dict]]
) -> dict[nn.Linear, Tensor]:
    """X^T X of each of `layers` over all texts; layers that no text reaches (idle experts) are left out."""
    found: dict[nn.Linear, Tensor] = {}

    def add(layer: nn.Linear, args: tuple, _output: Tensor) -> None:
        rows = args[0].reshape(-1, args[0].shape[-1])
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        if rows.numel():
            found[layer] = found.get(layer, 0) + rows.T @ rows

    hooks = [layer.register_forward_hook(add) for layer in layers]
    try:
        for state, own in given:
            block(state, **own)
    finally:
        for hook in hooks:
            hook.remove()
    return found
