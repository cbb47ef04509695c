"""Choose what to ablate: each query's best heads, Sahara's group, the best head of all, and random ones beside them."""

import argparse
import json
import logging

import pandas as pd

from safety_heads import interventions, logs, sahara, tables
from safety_heads.heads import Ablation, Head


def run(args: argparse.Namespace) -> None:
    setting = ["model", "dataset", "format"]
    ships = tables.read_table(tables.SHIPS, args.ships)
    subspace = tables.read_table(tables.SUBSPACE, args.subspace)
    plan = interventions.Plan(args.sizes, args.random_draws, args.seed)
    parts, groups, controls = [], [], []
    for key, scores in ships.groupby(setting, sort=False):
        chosen, beside = [interventions.unablated()], []
        for kind, rows in scores.groupby("ablation", sort=False):
            heads = [Head(*place) for place in rows[["layer", "head"]].drop_duplicates().itertuples(index=False)]
            group = sahara.grow(subspace[(subspace[[*setting, "ablation"]] == [*key, kind]).all(axis=1)])
            groups.append(group)
            logging.info("%s %s: %s", " ".join(key), kind, ", ".join(f"{h.layer}-{h.head}" for h in group.itertuples()))
            ablation = Ablation(kind, args.epsilons[kind])
            chosen.append(interventions.interventions(rows, group, heads, ablation, plan))
            beside.append(interventions.controls(rows, ablation, plan))
        own = dict(zip(setting, key, strict=True))
        parts.append(pd.concat(chosen, ignore_index=True).assign(**own))
        controls.append(pd.concat(beside, ignore_index=True).assign(**own))
    how = {"random_draws": args.random_draws, "seed": args.seed}
    tables.write_table(pd.concat(parts, ignore_index=True), tables.INTERVENTIONS, args.output, **how)
    tables.write_table(pd.concat(controls, ignore_index=True), tables.INTERVENTIONS, args.output_controls, **how)
    tables.write_table(pd.concat(groups, ignore_index=True), tables.SAHARA, args.output_sahara)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--ships", required=True, nargs="+", metavar="PARQUET", help="Ships of all heads")
    options.add_argument("--subspace", required=True, nargs="+", metavar="PARQUET", help="Sahara's steps of all heads")
    options.add_argument("--epsilons", required=True, type=json.loads, metavar="JSON", help="epsilon by ablation")
    options.add_argument("--sizes", type=int, default=3, help="groups of 1 to this many heads (default 3)")
    options.add_argument("--random-draws", type=int, default=3, help="random groups of each size (default 3)")
    options.add_argument("--seed", type=int, default=0, help="of the random groups")
    options.add_argument("--output", required=True, metavar="PARQUET", help="the interventions table")
    options.add_argument("--output-controls", required=True, metavar="PARQUET", help="others, for experiments")
    options.add_argument("--output-sahara", required=True, metavar="PARQUET", help="Sahara's groups")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
