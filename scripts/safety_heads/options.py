"""Command-line options that several programs share, so that they mean the same everywhere."""

import argparse
import json
import logging
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safety_heads import models, prompts, queries, sources, transplant
from safety_heads.errors import UserError
from safety_heads.heads import KINDS, WITHOUT_EPSILON, Ablation
from safety_heads.selfcheck import Check
from safety_heads.trunk import CACHE_GIB

EPSILON = 1e-5  # the paper's

logger = logging.getLogger(__name__)


def add_model(parser: argparse.ArgumentParser) -> None:
    """--model, --name, --dtype, --device."""
    parser.add_argument("--model", required=True, metavar="DIR", help="a model folder as transformers saves it")
    parser.add_argument("--name", help="what the tables call the model (default: the folder's name)")
    parser.add_argument("--dtype", default="float32", choices=models.DTYPES)
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, cuda:1, ...")


def load_model(args: argparse.Namespace) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and tokenizer that `add_model`'s and `add_donor`'s options name; fills in `args.name`."""
    args.name = args.name or Path(args.model).resolve().name
    donor = getattr(args, "donor", None)
    if donor:
        transplant.check_partners(args.model, donor)
    model, tokenizer = models.load(args.model, args.dtype, args.device)
    if donor:
        n = transplant.transplant(model, models.load(donor, args.dtype, args.device)[0], args.transplant)
        logger.info("%s: %d parameters (%s) are those of %s", args.name, n, args.transplant, donor)
    return model, tokenizer


def add_donor(parser: argparse.ArgumentParser) -> None:
    """--donor, --transplant."""
    parser.add_argument("--donor", metavar="DIR", help="a model of the same shape whose weights are put in (fig. 6a)")
    parser.add_argument("--transplant", default="attention", choices=transplant.PARTS, help="which of them")


def made_from(args: argparse.Namespace, check: Check | None = None) -> dict:
    """What a table is made from, for its provenance: every setting, checksums of model and queries, the self-check."""
    places = {"model", "donor", "queries", "subspace", "openings", "interventions", "tasks", "cache_gib"}
    settings = {key: value for key, value in vars(args).items() if key not in places and not key.startswith("output")}
    folders = {"model_sha256": args.model, "donor_sha256": getattr(args, "donor", None)}
    checksums = {key: _checksum(Path(folder)) for key, folder in folders.items() if folder}
    data = {Path(path).name: sources.file_sha256(Path(path)) for path in args.queries}
    checked = {"self_check": asdict(check)} if check else {}
    return {**settings, **checksums, "queries_sha256": data, **checked}


def _checksum(folder: Path) -> str:
    manifest = folder / "model.json"
    known = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
    return known.get("weights_sha256") or models.weights_checksum(folder)


def add_queries(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """--queries, --n, --seed, --side."""
    parser.add_argument(
        "--queries",
        required=required,
        nargs="+" if required else "*",
        default=[],
        metavar="FILE",
        help="queries tables, or CSV, JSON Lines, Parquet or text files with a column query, text, goal or prompt",
    )
    parser.add_argument("--n", type=int, help="how many of each file, drawn by id (default: all, in their order)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw, and of sampled answers")
    parser.add_argument(
        "--side", default="all", choices=("all", *queries.SIDES), help="the half of the queries to draw from"
    )


def read_queries(args: argparse.Namespace) -> pd.DataFrame:
    """The queries that `add_queries`' options name, as one queries table."""
    return pd.concat(
        [queries.draw(queries.read_query_file(path), args.side, args.n, args.seed) for path in args.queries],
        ignore_index=True,
    )


def add_format(parser: argparse.ArgumentParser) -> None:
    """--format, --template, --system-prompt."""
    parser.add_argument("--format", required=True, help="direct, template, chat, or the name of your own")
    parser.add_argument("--template", help="for a format of your own: a text with {query}")
    parser.add_argument("--system-prompt", help="for chat (default: the chat template's own)")


def prompt_format(args: argparse.Namespace) -> prompts.PromptFormat:
    """The format that `add_format`'s options name."""
    return prompts.prompt_format(args.format, args.template, args.system_prompt)


def named_format(declared: dict) -> prompts.PromptFormat:
    """A format from its declaration: name, and optionally template and system_prompt."""
    return prompts.prompt_format(**declared)


def add_ablations(parser: argparse.ArgumentParser) -> None:
    """--ablation, --epsilon."""
    parser.add_argument("--ablation", required=True, nargs="+", choices=KINDS)
    parser.add_argument(
        "--epsilon", type=float, nargs="+", help=f"one per ablation (default: {EPSILON}; 0 for zero and mean)"
    )


def ablations(args: argparse.Namespace) -> list[Ablation]:
    """The ablations that `add_ablations`' options name. Raises UserError unless each has its epsilon, or none has."""
    epsilons = args.epsilon or [0.0 if kind in WITHOUT_EPSILON else EPSILON for kind in args.ablation]
    if len(epsilons) != len(args.ablation) or len(set(args.ablation)) < len(args.ablation):
        raise UserError("--epsilon takes one number per --ablation, and each ablation is named once")
    return [Ablation(kind, epsilon) for kind, epsilon in zip(args.ablation, epsilons, strict=True)]


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """--shard, --shards, --cache-gib."""
    add_shards(parser)
    parser.add_argument(
        "--cache-gib",
        type=float,
        default=CACHE_GIB,
        help="of the blocks' inputs kept in memory; more goes to temporary files (default %(default)s)",
    )


def add_shards(parser: argparse.ArgumentParser) -> None:
    """--shard, --shards."""
    parser.add_argument("--shard", type=int, default=1, help="which part of the heads, from 1")
    parser.add_argument("--shards", type=int, default=1, help="into how many parts the heads are dealt out")
