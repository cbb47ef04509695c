"""Draw the examples of one lm-eval task: some to evaluate on, others to calibrate pruning on."""

import argparse
import logging

from safety_heads import helpfulness_tasks, logs, sources, tables
from safety_heads.errors import UserError


def run(args: argparse.Namespace) -> None:
    if args.source:
        if not args.member:
            raise UserError(f"--source needs --member, the Arrow file of {args.task} in it")
        fetched = sources.read_manifest(args.source)
        split, origin = helpfulness_tasks.read_local(fetched, args.member, args.task), fetched.revision
    else:
        split, origin = helpfulness_tasks.read_hub(args.task), "hub"
    frame = helpfulness_tasks.draw(args.task, split, args.n, args.calibration, args.seed)
    helpfulness_tasks.build(frame)  # a document that the task cannot read is told before any model is loaded
    tables.write_table(frame, tables.TASK_EXAMPLES, args.output, origin=origin, member=args.member, seed=args.seed)
    logging.info("%s: %s examples", args.task, frame["role"].value_counts().to_dict())


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--task", required=True, choices=helpfulness_tasks.FOLDERS)
    options.add_argument("--source", metavar="MANIFEST", help="of fetch_source.py (default: the hub)")
    options.add_argument("--member", help="the task's Arrow file in the source")
    options.add_argument("--n", type=int, help="how many examples to evaluate on (default: all)")
    options.add_argument("--calibration", type=int, default=0, help="how many others to calibrate on")
    options.add_argument("--seed", type=int, default=0, help="of the draw")
    options.add_argument("--output", required=True, metavar="PARQUET")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
