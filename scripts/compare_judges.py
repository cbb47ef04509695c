"""Tabulate how far the run's judges agree, what their errors are, and what each says of the headline."""

import argparse

from safety_heads import logs
from safety_heads.agreement import complied_table, pairwise
from safety_heads.judge_report import judges_markdown
from safety_heads.markdown import add_outputs, write_outputs
from safety_heads.results import add_results, read_results


def run(args: argparse.Namespace) -> None:
    results, setting = read_results(args)
    table = pairwise(complied_table(results.judgements))
    write_outputs(args, table, judges_markdown(results, setting))


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    add_results(options)
    add_outputs(options)
    return options


if __name__ == "__main__":
    logs.main(run, parser())
