"""Other ways to lock or unlock a model, beside the run's own answers (paper, figs. 6a, 15, 17, table 7). Target: experiments.

in: models, queries, interventions   out: <results>/experiments/{experiment}/{model}/{dataset}/..., <results>/figures/{model}/experiments-...
The first of the run's formats is taken unless the experiment names another.
"""


rule pick_interventions:
    input:
        script="scripts/pick_interventions.py",
        code=code("scripts/pick_interventions.py"),
        interventions=experiment_interventions,
    output:
        f"{EXPERIMENT}/plan.parquet",
    log:
        "<logs>/pick_interventions/{experiment}/{model}/{dataset}.log",
    benchmark:
        "<benchmarks>/pick_interventions/{experiment}/{model}/{dataset}.tsv"
    priority: 30
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        keep=lambda wildcards: selection.kept_interventions(config, wildcards.experiment),
        format=lambda wildcards: experiment_format(wildcards)["name"],
        source=lambda wildcards, input: ["--interventions", *input.interventions] if input.interventions else [],
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} {params.source:q} \
            --keep {params.keep:q} \
            --label {wildcards.experiment:q} \
            --name {wildcards.model:q} \
            --dataset {wildcards.dataset:q} \
            --format {params.format:q} \
            --output {output:q}
        """


use rule generate_responses as answer_experiment with:
    input:
        script="scripts/generate_responses.py",
        code=code("scripts/generate_responses.py"),
        model="<results>/models/{model}/model.json",
        donor=experiment_donor,
        queries="<results>/queries/{dataset}.parquet",
        interventions=f"{EXPERIMENT}/plan.parquet",
    output:
        f"{EXPERIMENT}/answers.parquet",
    log:
        "<logs>/answer_experiment/{experiment}/{model}/{dataset}.log",
    benchmark:
        "<benchmarks>/answer_experiment/{experiment}/{model}/{dataset}.tsv"
    params:
        model=model_options,
        format=lambda wildcards: selection.format_line(experiment_format(wildcards)),
        queries=query_options("generate_queries"),
        decodings=experiment_decodings,
        variant=experiment_options,


use rule judge_responses as judge_experiments with:
    input:
        script="scripts/judge_responses.py",
        code=code("scripts/judge_responses.py"),
        judge=lambda wildcards: selection.judge_files(config, wildcards.judge, "<results>"),
        queries=query_tables(HARMFUL),
        responses=lambda wildcards: experiment_parts(wildcards, "answers", benign=False),
    output:
        f"{JUDGED}.parquet",
    log:
        "<logs>/judge_experiments/{judge}/{model}.log",
    benchmark:
        "<benchmarks>/judge_experiments/{judge}/{model}.tsv"


use rule judge_responses as judge_benign with:
    input:
        script="scripts/judge_responses.py",
        code=code("scripts/judge_responses.py"),
        judge=lambda wildcards: selection.judge_files(config, wildcards.judge, "<results>"),
        queries=query_tables(BENIGN),
        responses=lambda wildcards: experiment_parts(wildcards, "answers", benign=True),
    output:
        f"{JUDGED}-benign.parquet",
    log:
        "<logs>/judge_benign/{judge}/{model}.log",
    benchmark:
        "<benchmarks>/judge_benign/{judge}/{model}.tsv"


use rule summarise_asr as summarise_experiments with:
    input:
        script="scripts/summarise_asr.py",
        code=code("scripts/summarise_asr.py"),
        judgements=experiment_judgements,
        interventions=lambda wildcards: [
            path for benign in (False, True) for path in experiment_parts(wildcards, "plan", benign)
        ],
        manifests="<results>/models/{model}/model.json",
    output:
        "<results>/tables/{model}/experiments.parquet",
    log:
        "<logs>/summarise_experiments/{model}.log",
    benchmark:
        "<benchmarks>/summarise_experiments/{model}.tsv"


use rule draw_asr_bars as draw_experiments with:
    input:
        script="scripts/draw_figure.py",
        code=code("scripts/draw_figure.py"),
        tables=collect("<results>/tables/{{model}}/{table}.parquet", table=["asr", "experiments"]),
    output:
        png=report(
            "<results>/figures/{model}/experiments-{judge}.png",
            caption="../report/experiments.rst",
            category="Attack success",
            labels={"figure": "experiments", "model": "{model}", "judge": "{judge}"},
        ),
        pdf="<results>/figures/{model}/experiments-{judge}.pdf",
    log:
        "<logs>/draw_experiments/{model}-{judge}.log",
    benchmark:
        "<benchmarks>/draw_experiments/{model}-{judge}.tsv"
    params:
        figure="experiments",
        options=lambda wildcards: ["--where", f"judge={wildcards.judge}", "--benign", *BENIGN],
