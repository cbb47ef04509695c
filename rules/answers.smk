"""From scores to attack success rates: what to ablate, the answers, the judges' verdicts, and their count.

in: scores   out: <results>/generations/..., <results>/judgements/..., <results>/tables/{model}/asr.parquet
Answers stay in the generations tables; nothing after the judges sees them.
"""


rule choose_interventions:
    input:
        script="scripts/choose_interventions.py",
        code=code("scripts/choose_interventions.py"),
        ships=lambda wildcards: score_parts(wildcards, "ships"),
        subspace=lambda wildcards: score_parts(wildcards, subspace_names(1, RUN["group_size"])),
    output:
        interventions="<results>/scores/{model}/{dataset}/{format}/interventions.parquet",
        controls="<results>/scores/{model}/{dataset}/{format}/controls.parquet",
        sahara="<results>/scores/{model}/{dataset}/{format}/sahara.parquet",
    log:
        "<logs>/choose_interventions/{model}/{dataset}/{format}.log",
    benchmark:
        "<benchmarks>/choose_interventions/{model}/{dataset}/{format}.tsv"
    priority: 30  # seconds that minutes of answers wait for: not behind figures
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        epsilons=json.dumps({name: config["ablations"][name] for name in RUN["ablations"]}),
        sizes=RUN["group_size"],
        draws=RUN["random_draws"],
        seed=config["seed"],
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            --ships {input.ships:q} \
            --subspace {input.subspace:q} \
            --epsilons {params.epsilons:q} \
            --sizes {params.sizes:q} \
            --random-draws {params.draws:q} \
            --seed {params.seed:q} \
            --output {output.interventions:q} \
            --output-controls {output.controls:q} \
            --output-sahara {output.sahara:q}
        """


rule generate_responses:
    input:
        script="scripts/generate_responses.py",
        code=code("scripts/generate_responses.py"),
        model="<results>/models/{model}/model.json",
        queries="<results>/queries/{dataset}.parquet",
        interventions="<results>/scores/{model}/{dataset}/{format}/interventions.parquet",
    output:
        "<results>/generations/{model}/{dataset}/{format}.parquet",
    log:
        "<logs>/generate_responses/{model}/{dataset}/{format}.log",
    benchmark:
        "<benchmarks>/generate_responses/{model}/{dataset}/{format}.tsv"
    priority: 20
    conda:
        "../envs/safety-heads.yaml"
    threads: HALF
    resources:
        gpu=GPU,
        mem_mb=memory,
        runtime=runtime,
    params:
        model=model_options,
        format=format_arguments,
        queries=query_options("generate_queries"),
        decodings=json.dumps({name: config["decodings"][name] for name in RUN["decodings"]}),
        variant=[],
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} {params.model:q} {params.format:q} {params.variant:q} \
            --queries {input.queries:q} {params.queries:q} \
            --interventions {input.interventions:q} \
            --decodings {params.decodings:q} \
            --output {output:q}
        """


rule judge_responses:
    input:
        script="scripts/judge_responses.py",
        code=code("scripts/judge_responses.py"),
        judge=lambda wildcards: selection.judge_files(config, wildcards.judge, "<results>"),
        queries=query_tables(HARMFUL),
        responses=collect(
            "<results>/generations/{{model}}/{dataset}/{format}.parquet",
            dataset=HARMFUL,
            format=RUN["formats"],
        ),
    output:
        "<results>/judgements/{judge}/{model}.parquet",
    log:
        "<logs>/judge_responses/{judge}/{model}.log",
    benchmark:
        "<benchmarks>/judge_responses/{judge}/{model}.tsv"
    conda:
        "../envs/safety-heads.yaml"
    threads: HALF
    resources:
        gpu=lambda wildcards: selection.judge_gpu(config, wildcards.judge, GPU),
        mem_mb=memory,
        runtime=runtime,
    params:
        judge=lambda wildcards: selection.judge_options(config, wildcards.judge, RESULTS),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} {params.judge:q} \
            --responses {input.responses:q} \
            --queries {input.queries:q} \
            --output {output:q}
        """


rule summarise_asr:
    input:
        script="scripts/summarise_asr.py",
        code=code("scripts/summarise_asr.py"),
        judgements=collect("<results>/judgements/{judge}/{{model}}.parquet", judge=RUN["judges"]),
        interventions=collect(
            "<results>/scores/{{model}}/{dataset}/{format}/interventions.parquet",
            dataset=HARMFUL,
            format=RUN["formats"],
        ),
        manifests="<results>/models/{model}/model.json",
    output:
        report(
            "<results>/tables/{model}/asr.parquet",
            caption="../report/asr.rst",
            category="Tables",
            labels={"table": "ASR", "model": "{model}"},
        ),
    log:
        "<logs>/summarise_asr/{model}.log",
    benchmark:
        "<benchmarks>/summarise_asr/{model}.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            --judgements {input.judgements:q} \
            --interventions {input.interventions:q} \
            --manifests {input.manifests:q} \
            --output {output:q}
        """


rule tabulate_asr:
    input:
        script="scripts/tabulate_asr.py",
        code=code("scripts/tabulate_asr.py"),
        judgements=collect("<results>/judgements/{judge}/{model}.parquet", judge=RUN["judges"], model=RUN["models"]),
        interventions=attacks(f"{SCORES}/interventions.parquet"),
        manifests=collect("<results>/models/{model}/model.json", model=RUN["models"]),
    output:
        csv=report(
            "<results>/tables/table3.csv",
            caption="../report/table3.rst",
            category="Tables",
            labels={"table": "table 3", "model": "all"},
        ),
        md="<results>/tables/table3.md",
    log:
        "<logs>/tabulate_asr.log",
    benchmark:
        "<benchmarks>/tabulate_asr.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            --judgements {input.judgements:q} \
            --interventions {input.interventions:q} \
            --manifests {input.manifests:q} \
            --output-csv {output.csv:q} \
            --output-md {output.md:q}
        """
