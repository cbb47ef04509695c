"""Measure a model's helpfulness unchanged, with heads ablated, or pruned: lm-eval's tasks, and benign queries."""

import argparse
import json
import logging

import pandas as pd
from lm_eval.models.huggingface import HFLM

from safety_heads import helpfulness, helpfulness_tasks, logs, models, options, tables
from safety_heads.attention import ablated
from safety_heads.comparators import check_prunable
from safety_heads.decoding import Decoding
from safety_heads.selfcheck import check_model


def run(args: argparse.Namespace) -> None:
    plan = tables.read_table(tables.INTERVENTIONS, args.interventions)
    examples = tables.read_table(tables.TASK_EXAMPLES, args.tasks)
    treatments = helpfulness.treatments(plan, args.keep, args.pruning)
    tasks = helpfulness_tasks.build(examples)
    if args.precision == "native" and args.dtype == "float32":
        device = models.resolve_device("auto" if args.device == "spread" else args.device)
        args.dtype = "bfloat16" if models.computes_in_bfloat16(device) else args.dtype
    subject = model, tokenizer = options.load_model(args)
    if args.pruning:
        check_prunable(model)  # now rather than after all else was measured
    texts = helpfulness_tasks.contexts(examples)
    calibration = tokenizer(texts).input_ids if texts else []
    language_model = HFLM(
        pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=args.batch_size, softmax_dtype="float32"
    )
    benign, own, drafted = None, [], False
    check = check_model(model, calibration or tokenizer(["a text", "another text"]).input_ids)
    if args.queries:
        queries = options.read_queries(args)
        prompts = options.prompt_format(args).encode(tokenizer, queries["text"])
        benign = helpfulness.Benign(queries, prompts, args.judge, Decoding("greedy", args.max_new_tokens), args.seed)
        own = benign.answers(subject, helpfulness.Treatment("none", "none"), False)
        drafted = check.sweep_is_exact
    frames = []
    for treatment in treatments:
        with treatment.pruning(model, calibration):
            answered = benign is None or treatment.method == "none"
            texts = own if answered else benign.answers(subject, treatment, drafted)
            with ablated(model, [treatment.heads]):  # the one row holds for batches of any size
                found = [helpfulness.accuracies(language_model, tasks)]
                found += [benign.measured(subject, texts, own)] if benign else []
        mean = found[0].query("metric == 'acc'")["value"].mean()
        logging.info("%s, %s: accuracy %.3f", args.name, treatment.name, mean)
        named = {"model": args.name, "treatment": treatment.name, "method": treatment.method}
        frames.append(pd.concat(found).assign(**named))
    tables.write_table(pd.concat(frames), tables.OUTCOMES, args.output, **options.made_from(args, check))


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(description=__doc__)
    options.add_model(program)
    options.add_format(program)
    options.add_queries(program, required=False)
    program.add_argument("--tasks", required=True, nargs="+", metavar="PARQUET", help="of prepare_task.py")
    program.add_argument("--interventions", required=True, metavar="PARQUET", help="of choose_interventions.py")
    program.add_argument("--keep", nargs="*", default=[], metavar="NAME", help="which of them; or mean+NAME")
    program.add_argument("--pruning", type=json.loads, default={}, metavar="JSON", help='e.g. {"wanda": 0.5}')
    program.add_argument("--judge", default="keyword-paper", help="of the answers to --queries, which are benign")
    program.add_argument("--max-new-tokens", type=int, default=64, help="of those answers")
    program.add_argument(
        "--precision", default="float32", choices=("float32", "native"), help="native: bfloat16 where it is faster"
    )
    program.add_argument("--batch-size", type=int, default=8, help="of lm-eval (default: %(default)s)")
    program.add_argument("--output", required=True, metavar="PARQUET", help="an outcomes table")
    return program


if __name__ == "__main__":
    logs.main(run, parser())
