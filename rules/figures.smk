"""Figures, summary and report page, from tables only.

in: <results>/tables   out: <results>/figures/*.png and .pdf, <results>/summary.md, <results>/report/index.html
"""


rule draw_ships_heatmap:
    input:
        script="scripts/draw_figure.py",
        code=code("scripts/draw_figure.py"),
        tables="<results>/tables/{model}/ships.parquet",
    output:
        png=report(
            "<results>/figures/{model}/ships_heatmap-{format}.png",
            caption="../report/ships_heatmap.rst",
            category="Heads",
            labels={"figure": "Ships", "model": "{model}", "format": "{format}"},
        ),
        pdf="<results>/figures/{model}/ships_heatmap-{format}.pdf",
    log:
        "<logs>/draw_ships_heatmap/{model}-{format}.log",
    benchmark:
        "<benchmarks>/draw_ships_heatmap/{model}-{format}.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        figure="ships_heatmap",
        options=lambda wildcards: ["--where", f"format={wildcards.format}", "--benign", *BENIGN],
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} --figure {params.figure:q} --tables {input.tables:q} {params.options:q} --output {output.png:q}
        """


use rule draw_ships_heatmap as draw_contrast with:
    output:
        png=report(
            "<results>/figures/{model}/contrast-{format}.png",
            caption="../report/contrast.rst",
            category="Heads",
            labels={"figure": "harmful against benign", "model": "{model}", "format": "{format}"},
        ),
        pdf="<results>/figures/{model}/contrast-{format}.pdf",
    log:
        "<logs>/draw_contrast/{model}-{format}.log",
    benchmark:
        "<benchmarks>/draw_contrast/{model}-{format}.tsv"
    params:
        figure="contrast",
        options=lambda wildcards: ["--where", f"format={wildcards.format}", "--benign", *BENIGN],


use rule draw_ships_heatmap as draw_sign with:
    output:
        png=report(
            "<results>/figures/{model}/sign-{dataset}-{format}.png",
            caption="../report/sign.rst",
            category="Heads",
            labels={"figure": "sign, {dataset}", "model": "{model}", "format": "{format}"},
        ),
        pdf="<results>/figures/{model}/sign-{dataset}-{format}.pdf",
    log:
        "<logs>/draw_sign/{model}-{dataset}-{format}.log",
    benchmark:
        "<benchmarks>/draw_sign/{model}-{dataset}-{format}.tsv"
    params:
        figure="sign",
        options=lambda wildcards: ["--where", f"format={wildcards.format}", f"dataset={wildcards.dataset}"],


use rule draw_ships_heatmap as draw_score_distribution with:
    input:
        script="scripts/draw_figure.py",
        code=code("scripts/draw_figure.py"),
        tables=tables_of_models("subspace"),
    output:
        png=report(
            "<results>/figures/score_distribution-{dataset}-{format}.png",
            caption="../report/score_distribution.rst",
            category="Heads",
            labels={"figure": "spread of generalised Ships, {dataset}", "model": "all", "format": "{format}"},
        ),
        pdf="<results>/figures/score_distribution-{dataset}-{format}.pdf",
    log:
        "<logs>/draw_score_distribution/{dataset}-{format}.log",
    benchmark:
        "<benchmarks>/draw_score_distribution/{dataset}-{format}.tsv"
    params:
        figure="score_distribution",
        options=lambda wildcards: ["--where", f"format={wildcards.format}", f"dataset={wildcards.dataset}"],


use rule draw_score_distribution as draw_overlap_ablations with:
    output:
        png=report(
            "<results>/figures/overlap_ablations.png",
            caption="../report/overlap_ablations.rst",
            category="Heads",
            labels={"figure": "top heads, UA and SC", "model": "all", "format": "all"},
        ),
        pdf="<results>/figures/overlap_ablations.pdf",
    log:
        "<logs>/draw_overlap_ablations.log",
    benchmark:
        "<benchmarks>/draw_overlap_ablations.tsv"
    params:
        figure="overlap_ablations",
        options=[],


use rule draw_score_distribution as draw_overlap_models with:
    output:
        png=report(
            "<results>/figures/overlap_models.png",
            caption="../report/overlap_models.rst",
            category="Heads",
            labels={"figure": "top heads, two models", "model": "all", "format": "all"},
        ),
        pdf="<results>/figures/overlap_models.pdf",
    log:
        "<logs>/draw_overlap_models.log",
    benchmark:
        "<benchmarks>/draw_overlap_models.tsv"
    params:
        figure="overlap_models",
        options=[],


use rule draw_ships_heatmap as draw_asr_bars with:
    input:
        script="scripts/draw_figure.py",
        code=code("scripts/draw_figure.py"),
        tables="<results>/tables/{model}/asr.parquet",
    output:
        png=report(
            "<results>/figures/{model}/asr_bars-{judge}.png",
            caption="../report/asr_bars.rst",
            category="Attack success",
            labels={"figure": "one head", "model": "{model}", "judge": "{judge}"},
        ),
        pdf="<results>/figures/{model}/asr_bars-{judge}.pdf",
    log:
        "<logs>/draw_asr_bars/{model}-{judge}.log",
    benchmark:
        "<benchmarks>/draw_asr_bars/{model}-{judge}.tsv"
    params:
        figure="asr_bars",
        options=lambda wildcards: ["--where", f"judge={wildcards.judge}"],


use rule draw_asr_bars as draw_group_size with:
    output:
        png=report(
            "<results>/figures/{model}/group_size-{judge}.png",
            caption="../report/group_size.rst",
            category="Attack success",
            labels={"figure": "group of the data set", "model": "{model}", "judge": "{judge}"},
        ),
        pdf="<results>/figures/{model}/group_size-{judge}.pdf",
    log:
        "<logs>/draw_group_size/{model}-{judge}.log",
    benchmark:
        "<benchmarks>/draw_group_size/{model}-{judge}.tsv"
    params:
        figure="group_size",
        options=lambda wildcards: ["--where", f"judge={wildcards.judge}"],


use rule draw_asr_bars as draw_group_size_query with:
    output:
        png=report(
            "<results>/figures/{model}/group_size_query-{judge}.png",
            caption="../report/group_size_query.rst",
            category="Attack success",
            labels={"figure": "each query's heads", "model": "{model}", "judge": "{judge}"},
        ),
        pdf="<results>/figures/{model}/group_size_query-{judge}.pdf",
    log:
        "<logs>/draw_group_size_query/{model}-{judge}.log",
    benchmark:
        "<benchmarks>/draw_group_size_query/{model}-{judge}.tsv"
    params:
        figure="group_size_query",
        options=lambda wildcards: ["--where", f"judge={wildcards.judge}"],


rule write_summary:
    input:
        script="scripts/write_summary.py",
        code=code("scripts/write_summary.py"),
        ships=tables_of_models("ships"),
        subspace=tables_of_models("subspace"),
        asr=tables_of_models("asr"),
        interventions=attacks(f"{SCORES}/interventions.parquet"),
        judgements=attacks("<results>/judgements/{judge}/{model}/{dataset}.parquet"),
        queries=query_tables(RUN["queries"]),
        manifests=collect("<results>/models/{model}/model.json", model=RUN["models"]),
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
        headline=selection.command_line(selection.headline(config)),
    shell:
        r"""
        python {input.script:q} \
            --ships {input.ships:q} \
            --subspace {input.subspace:q} \
            --asr {input.asr:q} \
            --interventions {input.interventions:q} \
            --judgements {input.judgements:q} \
            --queries {input.queries:q} \
            --manifests {input.manifests:q} \
            {params.headline:q} \
            --output {output:q} &>{log:q}
        """


rule write_scorecard:
    input:
        script="scripts/write_scorecard.py",
        code=code("scripts/write_scorecard.py"),
        ships=tables_of_models("ships"),
        subspace=tables_of_models("subspace"),
        asr=tables_of_models("asr"),
        interventions=attacks(f"{SCORES}/interventions.parquet"),
        judgements=attacks("<results>/judgements/{judge}/{model}/{dataset}.parquet"),
        queries=query_tables(RUN["queries"]),
        manifests=collect("<results>/models/{model}/model.json", model=RUN["models"]),
        reference="data/paper_values.csv",
    output:
        md="<results>/scorecard.md",
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
        headline=selection.command_line(selection.headline(config)),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            --ships {input.ships:q} \
            --subspace {input.subspace:q} \
            --asr {input.asr:q} \
            --interventions {input.interventions:q} \
            --judgements {input.judgements:q} \
            --queries {input.queries:q} \
            --manifests {input.manifests:q} \
            {params.headline:q} \
            --reference {input.reference:q} \
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
