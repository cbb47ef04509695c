"""Trace one head's attention on a few prompts as its q, k or v is scaled down (paper, figs. 7 and 8)."""

import argparse
import logging

import pandas as pd

from safety_heads import logs, options, patterns, tables
from safety_heads.errors import UserError
from safety_heads.heads import Head


def run(args: argparse.Namespace) -> None:
    queries = options.read_queries(args)
    head = chosen_head(args)
    model, tokenizer = options.load_model(args)
    prompts = options.prompt_format(args).encode(tokenizer, queries["text"])
    logging.info("%s: head %s, %d prompts of up to %d tokens", args.name, head, len(prompts), max(map(len, prompts)))
    key = {"model": args.name, "format": args.format, "layer": head.layer, "head": head.head}
    frames = [
        patterns.pattern_rows(patterns.head_patterns(model, prompt, head)).assign(
            **key, dataset=query.dataset, query_id=query.query_id
        )
        for query, prompt in zip(queries.itertuples(), prompts, strict=True)
    ]
    tables.write_table(pd.concat(frames, ignore_index=True), tables.PATTERNS, args.output, **options.made_from(args))


def chosen_head(args: argparse.Namespace) -> Head:
    """--head, or the head of the intervention --of."""
    if args.head:
        layer, _, head = args.head.partition("-")
        if not (layer.isdigit() and head.isdigit()):
            raise UserError(f"--head {args.head!r}: write layer-head, e.g. 18-8")
        return Head(int(layer), int(head))
    plan = tables.read_table(tables.INTERVENTIONS, args.interventions)
    rows = plan[plan["intervention"] == args.of]
    if len(rows) != 1:
        raise UserError(f"--of {args.of!r} is {len(rows)} heads in {args.interventions}; name an intervention with one")
    return Head(int(rows["layer"].iloc[0]), int(rows["head"].iloc[0]))


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(description=__doc__)
    options.add_model(program)
    options.add_queries(program)
    options.add_format(program)
    which = program.add_mutually_exclusive_group(required=True)
    which.add_argument("--head", metavar="LAYER-HEAD")
    which.add_argument("--interventions", metavar="PARQUET", help="of choose_interventions.py, with --of")
    program.add_argument("--of", default="ships-ua-1", help="the intervention whose head is traced")
    program.add_argument("--output", required=True, metavar="PARQUET", help="the patterns table")
    return program


if __name__ == "__main__":
    logs.main(run, parser())
