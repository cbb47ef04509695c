"""List all heads of a model as interventions, one head each, for the map of attack success rates (paper, fig. 4b)."""

import argparse

from safety_heads import interventions, logs, models, options, scoring, tables


def run(args: argparse.Namespace) -> None:
    heads = scoring.shard_of(models.describe(args.model), args.shard, args.shards)
    frame = interventions.every_head(heads, options.ablations(args), beside_none=args.shard == 1)
    key = {"model": args.name, "dataset": args.dataset, "format": args.format}
    tables.write_table(frame.assign(**key), tables.INTERVENTIONS, args.output, shard=args.shard, shards=args.shards)


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(description=__doc__)
    options.add_model(program)
    options.add_format(program)
    options.add_ablations(program)
    program.add_argument("--dataset", required=True, help="the data set whose queries will be answered")
    options.add_shards(program)
    program.add_argument("--output", required=True, metavar="PARQUET", help="the interventions table")
    return program


if __name__ == "__main__":
    logs.main(run, parser())
