"""Align a model: teach it to answer harmful queries with a refusal and benign ones as it did before."""

import argparse
import json
import logging

import pandas as pd

from safety_heads import align, lessons, logs, models, options, tables
from safety_heads.files import atomic_path


def run(args: argparse.Namespace) -> None:
    model, tokenizer = models.load(args.base, "float32", args.device)
    recipe, lesson = align.Recipe(**args.recipe), lessons.Lesson(**args.lesson)
    queries = tables.read_table(tables.QUERIES, args.queries)
    answers = tables.read_table(tables.GENERATIONS, args.answers)
    pairs = lessons.pairs(queries, answers, lesson)
    data = lessons.lesson_examples(tokenizer, [options.named_format(f) for f in args.formats], pairs)
    n_tokens = sum(len(example.prompt) + len(example.answer) for example in data)
    logging.info("%d examples, %d tokens, %d epoch(s)", len(data), n_tokens, recipe.epochs)
    losses = align.fine_tune(model, data, recipe)
    with atomic_path(args.output_losses) as partial:
        pd.DataFrame({"step": range(1, len(losses) + 1), "loss_nats": losses}).to_csv(partial, index=False)
    models.save(model, tokenizer, args.output)


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(description=__doc__)
    program.add_argument("--base", required=True, metavar="DIR", help="the model to start from")
    program.add_argument("--queries", required=True, nargs="+", metavar="PARQUET", help="queries tables")
    program.add_argument("--answers", required=True, nargs="+", metavar="PARQUET", help="the base's benign answers")
    program.add_argument("--formats", required=True, type=json.loads, metavar="JSON", help="prompt formats")
    program.add_argument(
        "--lesson", required=True, type=json.loads, metavar="JSON", help="harmful, benign, refusal, skip"
    )
    program.add_argument(
        "--recipe",
        required=True,
        type=json.loads,
        metavar="JSON",
        help="learning_rate, batch_size, epochs, seed, first_layer",
    )
    program.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, ...")
    program.add_argument("--output", required=True, metavar="DIR", help="the aligned model's folder")
    program.add_argument("--output-losses", required=True, metavar="CSV", help="the loss of every step")
    return program


if __name__ == "__main__":
    logs.main(run, parser())
