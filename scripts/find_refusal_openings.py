"""Find the tokens that open a model's own refusals, by letting it answer harmful queries."""

import argparse
import logging

from safety_heads import logs, options, tables
from safety_heads.openings import JUDGE, refusal_openings


def run(args: argparse.Namespace) -> None:
    queries = options.read_queries(args)
    model, tokenizer = options.load_model(args)
    prompts = options.prompt_format(args).encode(tokenizer, queries["text"])
    found = refusal_openings(model, tokenizer, prompts, args.max_new_tokens)
    found = found.assign(model=args.name, format=args.format)
    tables.write_table(found, tables.OPENINGS, args.output, judge=JUDGE, **options.made_from(args))
    logging.info("%d answers, %d of them open with one of %s", len(queries), found["n"].sum(), found["token"].tolist())


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(description=__doc__)
    options.add_model(program)
    options.add_queries(program)
    options.add_format(program)
    program.add_argument("--max-new-tokens", type=int, default=32, help="enough to recognise a refusal (default 32)")
    program.add_argument("--output", required=True, metavar="PARQUET", help="the openings table")
    return program


if __name__ == "__main__":
    logs.main(run, parser())
