"""Summary, scorecard, cost and report page, from tables and figures only.

in: <results>/tables, <results>/figures   out: <results>/summary.md, scorecard.md, tables/cost.md, report/index.html
"""

RUN_TABLES = {
    "ships": tables_of_models("ships"),
    "subspace": tables_of_models("subspace"),
    "asr": tables_of_models("asr"),
    "interventions": attacks(f"{SCORES}/interventions.parquet"),
    "judgements": collect("<results>/judgements/{judge}/{model}.parquet", judge=RUN["judges"], model=RUN["models"]),
    "queries": query_tables(RUN["queries"]),
    "graded": collect("<results>/judges/{judge}/{labelled}.parquet", judge=RUN["judges"], labelled=RUN["labelled"]),
    "manifests": collect("<results>/models/{model}/model.json", model=RUN["models"]),
}


rule write_summary:
    input:
        **RUN_TABLES,
        script="scripts/write_summary.py",
        code=code("scripts/write_summary.py"),
        benign=benign_judgements(),
        benign_interventions=benign_plans(),
    output:
        report("<results>/summary.md", caption="../report/summary.rst", category="Summary"),
    log:
        "<logs>/write_summary.log",
    benchmark:
        "<benchmarks>/write_summary.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        tables=lambda wildcards, input: [word for name in RUN_TABLES for word in (f"--{name}", *input.get(name))],
        headline=selection.command_line(selection.headline(config)),
    shell:
        r"""
        python {input.script:q} \
            {params.tables:q} \
            {params.headline:q} \
            --benign {input.benign:q} \
            --benign-interventions {input.benign_interventions:q} \
            --output {output:q} &>{log:q}
        """


rule write_scorecard:
    input:
        **RUN_TABLES,
        script="scripts/write_scorecard.py",
        code=code("scripts/write_scorecard.py"),
        reference="data/paper_values.csv",
    output:
        md="<results>/scorecard.md",
        html="<results>/scorecard.html",
        csv=report(
            "<results>/scorecard.csv",
            caption="../report/scorecard.rst",
            category="Summary",
        ),
    log:
        "<logs>/write_scorecard.log",
    benchmark:
        "<benchmarks>/write_scorecard.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        tables=lambda wildcards, input: [word for name in RUN_TABLES for word in (f"--{name}", *input.get(name))],
        headline=selection.command_line(selection.headline(config)),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            {params.tables:q} \
            {params.headline:q} \
            --reference {input.reference:q} \
            --output-md {output.md:q} \
            --output-csv {output.csv:q} \
            --output-html {output.html:q}
        """


rule compare_judges:
    input:
        **RUN_TABLES,
        script="scripts/compare_judges.py",
        code=code("scripts/compare_judges.py"),
    output:
        md="<results>/tables/judges.md",
        csv=report(
            "<results>/tables/judges.csv",
            caption="../report/judges.rst",
            category="Tables",
            labels={"table": "agreement of judges", "model": "all"},
        ),
    log:
        "<logs>/compare_judges.log",
    benchmark:
        "<benchmarks>/compare_judges.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        tables=lambda wildcards, input: [word for name in RUN_TABLES for word in (f"--{name}", *input.get(name))],
        headline=selection.command_line(selection.headline(config)),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            {params.tables:q} \
            {params.headline:q} \
            --output-md {output.md:q} \
            --output-csv {output.csv:q}
        """


rule tabulate_cost:
    input:
        script="scripts/tabulate_cost.py",
        code=code("scripts/tabulate_cost.py"),
        asr=tables_of_models("asr"),
        manifests=collect("<results>/models/{model}/model.json", model=RUN["models"]),
        after=ancient(["<results>/summary.md", *all_figures()]),  # so that what these take is counted
    output:
        md="<results>/tables/cost.md",
        csv=report(
            "<results>/tables/cost.csv",
            caption="../report/cost.rst",
            category="Tables",
            labels={"table": "cost", "model": "all"},
        ),
    log:
        "<logs>/tabulate_cost.log",
    benchmark:
        "<benchmarks>/tabulate_cost.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        benchmarks=config.get("pathvars", {}).get("benchmarks", "results/benchmarks"),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            --benchmarks {params.benchmarks:q} \
            --asr {input.asr:q} \
            --manifests {input.manifests:q} \
            --output-md {output.md:q} \
            --output-csv {output.csv:q}
        """


rule write_config:
    output:
        "<results>/config.yaml",
    log:
        "<logs>/write_config.log",
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        text=lambda wildcards: yaml.safe_dump(config, sort_keys=False),
    shell:
        r"""
        printf '%s' {params.text:q} >{output:q} 2>{log:q}
        """


rule write_report_page:
    input:
        script="scripts/write_report_page.py",
        code=code("scripts/write_report_page.py"),
        summary="<results>/summary.md",
        table="<results>/tables/table3.md",
        scorecard="<results>/scorecard.md",
        cost="<results>/tables/cost.md",
        judges="<results>/tables/judges.md",
        asr=tables_of_models("asr"),
        figures=all_figures(),
        captions=sorted(str(path) for path in Path("report").glob("*.rst")),
        cards=collect("<results>/aligned/{model}.card.json", model=ALIGNED),
        config="<results>/config.yaml",
    output:
        report(
            "<results>/report/index.html",
            caption="../report/report_page.rst",
            category="Summary",
        ),
    log:
        "<logs>/write_report_page.log",
    benchmark:
        "<benchmarks>/write_report_page.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        asr=lambda wildcards, input: input.asr[0],
        texts=lambda wildcards, input: [
            f"Summary={input.summary}",
            f"Judges={input.judges}",
            f"Change of ASR by number of heads={input.table}",
            f"Scorecard={input.scorecard}",
            f"Cost={input.cost}",
        ],
        cards=lambda wildcards, input: ["--cards", *input.cards] if input.cards else [],
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            --texts {params.texts:q} \
            --asr {params.asr:q} \
            --figures {input.figures:q} \
            --captions {input.captions:q} {params.cards:q} \
            --config {input.config:q} \
            --output {output:q}
        """
