"""Scorecard and report page with the experiments, the maps and helpfulness. Target: paper.

in: <results>/tables, <results>/figures   out: <results>/scorecard_full.md, <results>/report/full.html
"""

FULL_TABLES = {
    **RUN_TABLES,
    "experiments": tables_of_models("experiments"),
    "helpfulness": tables_of_models("helpfulness"),
}


use rule write_scorecard as write_full_scorecard with:
    input:
        **FULL_TABLES,
        script="scripts/write_scorecard.py",
        code=code("scripts/write_scorecard.py"),
        reference="data/paper_values.csv",
    output:
        md="<results>/scorecard_full.md",
        html="<results>/scorecard_full.html",
        csv=report(
            "<results>/scorecard_full.csv",
            caption="../report/scorecard.rst",
            category="Summary",
        ),
    log:
        "<logs>/write_full_scorecard.log",
    benchmark:
        "<benchmarks>/write_full_scorecard.tsv"
    params:
        tables=lambda wildcards, input: [word for name in FULL_TABLES for word in (f"--{name}", *input.get(name))],
        headline=selection.command_line(selection.headline(config)),


use rule write_report_page as write_full_page with:
    input:
        script="scripts/write_report_page.py",
        code=code("scripts/write_report_page.py"),
        summary="<results>/summary.md",
        table="<results>/tables/table3.md",
        scorecard="<results>/scorecard_full.md",
        cost="<results>/tables/cost.md",
        judges="<results>/tables/judges.md",
        asr=tables_of_models("asr"),
        figures=all_figures() + figures_beside(),
        captions=sorted(str(path) for path in Path("report").glob("*.rst")),
        cards=collect("<results>/aligned/{model}.card.json", model=ALIGNED),
        config="<results>/config.yaml",
    output:
        report(
            "<results>/report/full.html",
            caption="../report/report_page.rst",
            category="Summary",
        ),
    log:
        "<logs>/write_full_page.log",
    benchmark:
        "<benchmarks>/write_full_page.tsv"
