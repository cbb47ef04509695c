"""Sizes of models, known before their weights are: from a prepared model, its config.json, or a table of hub models.

Read while the Snakefile is parsed, so nothing heavy is imported.
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from safety_heads.errors import UserError

KNOWN = Path(__file__).parents[2] / "data" / "model_shapes.csv"
ASSUMED = "meta-llama/Llama-3.1-8B-Instruct"  # a model that nothing is known of yet is planned as large as this one


@dataclass(frozen=True)
class ModelShape:
    """Sizes in the field's names; `n_parameters` counts tied weights once, `n_block_weights` is a block's mean number
    of matrix entries."""

    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_model: int
    d_vocab: int
    n_parameters: int
    n_block_weights: int


def shape_of(config: Mapping, model: str, results: str | Path) -> tuple[ModelShape, str]:
    """The model's sizes, and where they are from: `prepared`, `config.json`, `table` or `assumed`.

    `results` is the run's folder, in which a prepared model's manifest tells more than any declaration.
    """
    declared = config["models"][model]
    manifest = Path(results) / "models" / model / "model.json"
    if manifest.is_file():
        known = json.loads(manifest.read_text(encoding="utf-8"))
        return ModelShape(**{field.name: known[field.name] for field in fields(ModelShape)}), "prepared"
    if "align" in declared:
        return shape_of(config, declared["align"]["base"], results)
    if "path" in declared:
        return from_config_json(Path(declared["path"]).expanduser() / "config.json"), "config.json"
    name = declared.get("hub") or Path(declared["gguf"]).name.split(".")[0]
    table = known_shapes()
    for hub, shape in table.items():
        if name.lower() in (hub.lower(), hub.split("/")[1].lower()):
            return shape, "table"
    return table[ASSUMED], "assumed"


@cache
def known_shapes() -> dict[str, ModelShape]:
    """The models of data/model_shapes.csv, by their names on the hub."""
    with KNOWN.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    shapes = {}
    for row in rows:
        sizes = {key: int(value) for key, value in row.items() if value.isdigit()}
        block = _block_weights(sizes, n_experts=1)
        shapes[row["model"]] = ModelShape(
            **{field.name: sizes[field.name] for field in fields(ModelShape) if field.name in sizes},
            n_block_weights=block,
        )
    return shapes


def from_config_json(path: str | Path) -> ModelShape:
    """The sizes that a config.json tells; parameters are counted from its matrices, norms and biases left out.

    Raises UserError for a file that cannot be read or names no sizes.
    """
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
        config = config.get("text_config", config)
        heads, d_model = _first(config, "num_attention_heads", "n_head"), _first(config, "hidden_size", "n_embd")
        sizes = {
            "n_layers": _first(config, "num_hidden_layers", "n_layer"),
            "n_heads": heads,
            "n_kv_heads": config.get("num_key_value_heads") or heads,
            "d_head": config.get("head_dim") or d_model // heads,
            "d_model": d_model,
            "d_vocab": config["vocab_size"],
        }
        d_ffn = _first({**config, "default": 4 * d_model}, "moe_intermediate_size", "intermediate_size", "default")
        experts = config.get("num_local_experts") or config.get("num_experts") or 1
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} tells no sizes of a model ({error!r}); give a folder as transformers saves it"
        ) from error
    block = _block_weights({**sizes, "d_ffn": d_ffn}, experts)
    ends = sizes["d_model"] * sizes["d_vocab"] * (1 if config.get("tie_word_embeddings") else 2)
    return ModelShape(**sizes, n_parameters=sizes["n_layers"] * block + ends, n_block_weights=block)


def _first(config: Mapping, *names: str) -> int:
    for name in names:
        if config.get(name):
            return config[name]
    raise KeyError(names[0])


def _block_weights(sizes: Mapping[str, int], n_experts: int) -> int:
    """Projections of queries, keys, values and output, and a gated MLP per expert."""
    attention = 2 * sizes["d_model"] * sizes["d_head"] * (sizes["n_heads"] + sizes["n_kv_heads"])
    return attention + 3 * sizes["d_model"] * sizes["d_ffn"] * n_experts
