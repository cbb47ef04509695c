"""Weights of one model in another: is safety kept by attention or by the rest? (Paper, section 5.1, fig. 6a.)

Happens in memory, as the model is loaded; the mixture is never written to disk.
"""

from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from safety_heads import models
from safety_heads.errors import UserError

PARTS = ("attention", "mlp", "all")


def check_partners(folder: str | Path, donor: str | Path) -> None:
    """Raise UserError unless the two model folders have the same architecture, sizes and vocabulary."""
    ours, theirs = models.read_config(folder), models.read_config(donor)
    if type(ours) is not type(theirs):
        raise UserError(f"{donor} is a {theirs.model_type!r} model, {folder} a {ours.model_type!r} one; name its base")
    sizes, others = asdict(models.describe(folder)), asdict(models.describe(donor))
    for name, size in sizes.items():
        if others[name] != size:
            raise UserError(f"{donor} has {name} {others[name]}, {folder} has {size}; weights fit its own base only")
    if models.load_tokenizer(folder).get_vocab() != models.load_tokenizer(donor).get_vocab():
        raise UserError(f"{donor} has another vocabulary than {folder}; weights fit its own base only")


@torch.no_grad()
def transplant(model: PreTrainedModel, donor: PreTrainedModel, part: str) -> int:
    """Put the donor's `attention` or `mlp` weights, or `all`, into `model` in place; how many parameters that are.

    Norms belong to neither part. Raises UserError if the blocks have no modules of that kind.
    """
    pairs = [(model, donor)]
    if part != "all":
        blocks = zip(model.get_decoder().layers, donor.get_decoder().layers, strict=True)
        pairs = [(of_part(ours, part), of_part(theirs, part)) for ours, theirs in blocks]
    n_parameters = 0
    for ours, theirs in pairs:
        ours.load_state_dict(theirs.state_dict())
        n_parameters += sum(parameter.numel() for parameter in ours.parameters())
    return n_parameters


def of_part(block: nn.Module, part: str) -> nn.Module:
    """A block's attention, the child that knows its layer, or its MLP (or experts), the other child with matrices."""
    with_matrices = [child for child in block.children() if any(p.ndim > 1 for p in child.parameters())]
    attention = [child for child in with_matrices if hasattr(child, "layer_idx")]
    others = [child for child in with_matrices if not hasattr(child, "layer_idx")]
    found = attention if part == "attention" else others
    if len(found) != 1:
        raise UserError(f"{type(block).__name__} has {len(found)} modules for {part!r}; its parts cannot be told apart")
    return found[0]
