"""Figures, from tables only.

in: <results>/tables   out: <results>/figures/*.png and .pdf
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
