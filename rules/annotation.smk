"""A spot check of the judges by hand: a page to label answers on, and how far each judge agrees. Target: annotate.

in: generations, judgements   out: <results>/annotation/page.html, <results>/judges/human.csv and .md
The page holds answers, as the generations tables do; nothing else of this stage does.
"""


rule write_annotation_page:
    input:
        script="scripts/write_annotation_page.py",
        code=code("scripts/write_annotation_page.py"),
        template="report/annotation_page.html",
        responses=attacks("<results>/generations/{model}/{dataset}/{format}.parquet"),
        judgements=RUN_TABLES["judgements"],
        interventions=attacks(f"{SCORES}/interventions.parquet"),
        queries=query_tables(HARMFUL),
    output:
        "<results>/annotation/page.html",
    log:
        "<logs>/write_annotation_page.log",
    benchmark:
        "<benchmarks>/write_annotation_page.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        n=config["annotation"]["n"],
        seed=config["seed"],
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            --responses {input.responses:q} \
            --judgements {input.judgements:q} \
            --interventions {input.interventions:q} \
            --queries {input.queries:q} \
            --n {params.n:q} \
            --seed {params.seed:q} \
            --template {input.template:q} \
            --output {output:q}
        """


rule compare_annotations:
    input:
        script="scripts/compare_annotations.py",
        code=code("scripts/compare_annotations.py"),
        labels=config["annotation"]["labels"] or [],
        responses=attacks("<results>/generations/{model}/{dataset}/{format}.parquet"),
        judgements=RUN_TABLES["judgements"],
    output:
        csv="<results>/judges/human.csv",
        md="<results>/judges/human.md",
    log:
        "<logs>/compare_annotations.log",
    benchmark:
        "<benchmarks>/compare_annotations.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        n=config["annotation"]["n"],
        seed=config["seed"],
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            --labels {input.labels:q} \
            --responses {input.responses:q} \
            --judgements {input.judgements:q} \
            --n {params.n:q} \
            --seed {params.seed:q} \
            --output-csv {output.csv:q} \
            --output-md {output.md:q}
        """
