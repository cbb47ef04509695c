"""What ablation costs: lm-eval's tasks and benign queries, beside pruned models (paper, fig. 6b). Target: helpfulness.

Every treatment of a model, ablation or pruning, is a job of its own.
in: models, interventions, benign queries   out: <results>/tasks, <results>/helpfulness,
<results>/tables/{model}/helpfulness.parquet, <results>/figures/{model}/helpfulness.png
"""

HELPFULNESS = config["helpfulness"]
TASKS = "<results>/tasks"


rule prepare_task:
    input:
        script="scripts/prepare_task.py",
        code=code("scripts/prepare_task.py"),
        source=f"<results>/sources/{HELPFULNESS['source']}.json" if HELPFULNESS["source"] else [],
    output:
        f"{TASKS}/{{task}}.parquet",
    log:
        "<logs>/prepare_task/{task}.log",
    benchmark:
        "<benchmarks>/prepare_task/{task}.tsv"
    wildcard_constraints:
        task="|".join(HELPFULNESS["tasks"]),
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        origin=lambda wildcards: selection.command_line(
            selection.task_origin(config, wildcards.task, f"{RESULTS}/sources")
        ),
        draw=selection.command_line(selection.task_draw(config)),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} --task {wildcards.task:q} {params.origin:q} {params.draw:q} --output {output:q}
        """


rule measure_helpfulness:
    input:
        script="scripts/measure_helpfulness.py",
        code=code("scripts/measure_helpfulness.py"),
        model="<results>/models/{model}/model.json",
        tasks=collect(f"{TASKS}/{{task}}.parquet", task=HELPFULNESS["tasks"]),
        queries=query_tables(BENIGN),
        interventions=f"<results>/scores/{{model}}/{HARMFUL[0]}/{RUN['formats'][0]}/interventions.parquet",
    output:
        "<results>/helpfulness/{model}/{treatment}.parquet",
    log:
        "<logs>/measure_helpfulness/{model}/{treatment}.log",
    benchmark:
        "<benchmarks>/measure_helpfulness/{model}/{treatment}.tsv"
    conda:
        "../envs/safety-heads.yaml"
    threads: HALF
    resources:
        gpu=GPU,
        mem_mb=memory,
        runtime=runtime,
    params:
        model=model_options,
        format=lambda wildcards: selection.format_line(
            selection.format_options(config, RUN["formats"][0], wildcards.model)
        ),
        queries=query_options("generate_queries"),
        treatment=lambda wildcards: selection.treatments(config)[wildcards.treatment],
        judge=config["alignment"]["exam"]["judge"],
        length=config["decodings"][RUN["decodings"][0]]["max_new_tokens"],
        precision=HELPFULNESS["precision"],
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} {params.model:q} {params.format:q} \
            --queries {input.queries:q} {params.queries:q} \
            --tasks {input.tasks:q} \
            --interventions {input.interventions:q} \
            {params.treatment:q} \
            --judge {params.judge:q} \
            --max-new-tokens {params.length:q} \
            --precision {params.precision:q} \
            --output {output:q}
        """


rule tabulate_helpfulness:
    input:
        script="scripts/tabulate_helpfulness.py",
        code=code("scripts/tabulate_helpfulness.py"),
        outcomes=lambda wildcards: collect(
            "<results>/helpfulness/{model}/{treatment}.parquet",
            model=wildcards.model,
            treatment=list(selection.treatments(config)),
        ),
    output:
        report(
            "<results>/tables/{model}/helpfulness.parquet",
            caption="../report/helpfulness.rst",
            category="Tables",
            labels={"table": "helpfulness", "model": "{model}"},
        ),
    log:
        "<logs>/tabulate_helpfulness/{model}.log",
    benchmark:
        "<benchmarks>/tabulate_helpfulness/{model}.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} --outcomes {input.outcomes:q} --output {output:q}
        """


use rule draw_ships_heatmap as draw_helpfulness with:
    input:
        script="scripts/draw_figure.py",
        code=code("scripts/draw_figure.py"),
        tables="<results>/tables/{model}/helpfulness.parquet",
    output:
        png=report(
            "<results>/figures/{model}/helpfulness.png",
            caption="../report/helpfulness.rst",
            category="Helpfulness",
            labels={"figure": "helpfulness", "model": "{model}"},
        ),
        pdf="<results>/figures/{model}/helpfulness.pdf",
    log:
        "<logs>/draw_helpfulness/{model}.log",
    benchmark:
        "<benchmarks>/draw_helpfulness/{model}.tsv"
    params:
        figure="helpfulness",
        options=[],
