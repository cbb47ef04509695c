"""Let a model answer queries, unchanged or with heads ablated; answers go into the generations table only."""

import argparse
import json
import logging

import pandas as pd

from safety_heads import interventions, logs, options, tables
from safety_heads.decoding import Decoding, Request
from safety_heads.generation import generate
from safety_heads.selfcheck import check_model

GREEDY = '{"greedy": {"max_new_tokens": 64}}'


def run(args: argparse.Namespace) -> None:
    queries = options.read_queries(args)
    decodings = [Decoding(name, **how) for name, how in args.decodings.items()]
    plan = interventions.unablated()
    if args.interventions:
        plan = tables.read_table(tables.INTERVENTIONS, args.interventions)
    model, tokenizer = options.load_model(args)
    begun = tokenizer(args.begin, add_special_tokens=False).input_ids
    encoded = options.prompt_format(args).encode(tokenizer, queries["text"])
    prompts = {query: prompt + begun for query, prompt in zip(queries["query_id"], encoded, strict=True)}
    rows, requests = [], []
    for name, chosen in plan.groupby("intervention", sort=False):
        for query in queries.itertuples():
            heads = interventions.ablated_heads(chosen, query.query_id)
            if heads is not None:  # a query's own heads are known only where it was scored
                rows.append({"dataset": query.dataset, "query_id": query.query_id, "intervention": name})
                requests.append(Request(query.query_id, prompts[query.query_id], heads))
    logging.info("%s: %d answers, %d interventions", args.name, len(rows) * len(decodings), plan.intervention.nunique())
    check = check_model(model, list(prompts.values()))
    answers = generate(model, tokenizer, requests, decodings, args.seed, with_drafts=check.sweep_is_exact)
    frame = pd.DataFrame(
        {
            **row,
            "decoding": how.name,
            "response": f"{args.begin} {a.text}".strip(),
            "n_tokens": a.n_tokens,
            "stop_reason": a.stop_reason,
        }
        for how, of_decoding in zip(decodings, answers, strict=True)
        for row, a in zip(rows, of_decoding, strict=True)
    ).assign(model=args.name, format=args.format)
    tables.write_table(frame, tables.GENERATIONS, args.output, **options.made_from(args, check))


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(description=__doc__)
    options.add_model(program)
    options.add_donor(program)
    options.add_queries(program)
    options.add_format(program)
    program.add_argument("--interventions", metavar="PARQUET", help="of choose_interventions.py (default: none)")
    program.add_argument(
        "--decodings", type=json.loads, default=GREEDY, metavar="JSON", help="by name (default: %(default)s)"
    )
    program.add_argument(
        "--begin", default="", metavar="TEXT", help="every answer is made to begin so (paper, table 7)"
    )
    program.add_argument("--output", required=True, metavar="PARQUET", help="the generations table")
    return program


if __name__ == "__main__":
    logs.main(run, parser())
