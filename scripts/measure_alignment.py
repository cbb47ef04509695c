"""Measure an aligned model on queries it was not trained on, and write its alignment card."""

import argparse
import json
import logging

from safety_heads import alignment_card, logs, models, options, tables
from safety_heads.files import atomic_path


def run(args: argparse.Namespace) -> None:
    queries = tables.read_table(tables.QUERIES, args.queries)
    answers = tables.read_table(tables.GENERATIONS, args.answers)
    formats = [options.named_format(declared) for declared in args.formats]
    exam = alignment_card.Exam(**args.exam)
    subjects = {
        "before": models.load(args.base, device=args.device),
        "after": models.load(args.model, device=args.device),
    }
    card = alignment_card.measure(subjects, queries, answers, formats, exam)
    with atomic_path(args.output) as partial:
        partial.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    logging.info("alignment card: %s", "; ".join(card["failures"]) or "every gate is passed")


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(description=__doc__)
    program.add_argument("--model", required=True, metavar="DIR", help="the aligned model")
    program.add_argument("--base", required=True, metavar="DIR", help="the model it was aligned from")
    program.add_argument("--queries", required=True, nargs="+", metavar="PARQUET", help="queries tables")
    program.add_argument("--answers", required=True, nargs="+", metavar="PARQUET", help="the base's benign answers")
    program.add_argument("--formats", required=True, type=json.loads, metavar="JSON", help="prompt formats")
    program.add_argument("--exam", required=True, type=json.loads, metavar="JSON", help="alignment.exam")
    program.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, ...")
    program.add_argument("--output", required=True, metavar="JSON", help="the alignment card")
    return program


if __name__ == "__main__":
    logs.main(run, parser())
