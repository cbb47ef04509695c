"""What a prepared model's model.json tells of it, for the stages that need no weights."""

import json
from collections.abc import Iterable
from pathlib import Path

from safety_heads.errors import UserError

KEYS = ("name", "n_layers", "n_heads", "d_model", "d_head", "n_parameters")


def read_manifests(paths: Iterable[str | Path]) -> dict[str, dict]:
    """The manifests by model name. Raises UserError for one that cannot be read or lacks a key."""
    manifests = {}
    for path in paths:
        try:
            manifest = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is no readable model manifest ({error}); delete it and run again") from error
        if missing := [key for key in KEYS if key not in manifest]:
            raise UserError(f"{path}: the manifest lacks {', '.join(missing)}; delete it and run again")
        manifests[manifest["name"]] = manifest
    return manifests


def head_weights(manifest: dict) -> int:
    """How many parameters the ablation of one head changes: its rows of W_q under UA, as many of W_v's or W_o's under
    SC, `d_head` x `d_model` (paper, section 4.2: 0.006 % of Llama-2-7b)."""
    return manifest["d_head"] * manifest["d_model"]


def head_share(manifest: dict) -> float:
    """`head_weights` as a share of all parameters, tied weights counted once."""
    return head_weights(manifest) / manifest["n_parameters"]


def head_shares(paths: Iterable[str | Path]) -> dict[str, float]:
    """`head_share` by model name. Raises as `read_manifests`."""
    return {name: head_share(manifest) for name, manifest in read_manifests(paths).items()}
