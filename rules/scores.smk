"""Scores of heads: Ships with its sign, generalised Ships, and Sahara step by step (paper, sections 3.2, 4.1, 4.2).

in: a model, queries   out: <results>/scores/{model}/{dataset}/{format}/..., <results>/tables/{model}/...
A step of Sahara reads the scores of all earlier steps, so which head was chosen stays inside the tables.
"""


rule find_refusal_openings:
    input:
        script="scripts/find_refusal_openings.py",
        code=code("scripts/find_refusal_openings.py"),
        model="<results>/models/{model}/model.json",
        queries=query_tables(HARMFUL),
    output:
        "<results>/scores/{model}/openings-{format}.parquet",
    log:
        "<logs>/find_refusal_openings/{model}/{format}.log",
    benchmark:
        "<benchmarks>/find_refusal_openings/{model}/{format}.tsv"
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
        queries=query_options("score_queries"),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} {params.model:q} {params.format:q} \
            --queries {input.queries:q} {params.queries:q} \
            --output {output:q}
        """


rule score_ships:
    input:
        script="scripts/score_ships.py",
        code=code("scripts/score_ships.py"),
        model="<results>/models/{model}/model.json",
        queries="<results>/queries/{dataset}.parquet",
        openings="<results>/scores/{model}/openings-{format}.parquet",
    output:
        ships="<results>/scores/{model}/{dataset}/{format}/ships-{shard}.parquet",
        subspace="<results>/scores/{model}/{dataset}/{format}/subspace-1-{shard}.parquet",
    log:
        "<logs>/score_ships/{model}/{dataset}/{format}/{shard}.log",
    benchmark:
        "<benchmarks>/score_ships/{model}/{dataset}/{format}/{shard}.tsv"
    priority: 20
    conda:
        "../envs/safety-heads.yaml"
    threads: HALF
    resources:
        gpu=GPU,
        mem_mb=memory,
        runtime=runtime,
        cache_gib=4,  # more of the blocks' inputs go to temporary files
    params:
        model=model_options,
        format=format_arguments,
        queries=query_options("score_queries"),
        ablations=RUN["ablations"],
        epsilons=[config["ablations"][name] for name in RUN["ablations"]],
        rank=RUN["rank"],
        screen=RUN["screen"],
        n_shards=lambda wildcards: len(shards(wildcards.model)),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} {params.model:q} {params.format:q} \
            --queries {input.queries:q} {params.queries:q} \
            --ablation {params.ablations:q} \
            --epsilon {params.epsilons:q} \
            --screen {params.screen:q} \
            --openings {input.openings:q} \
            --rank {params.rank:q} \
            --shard {wildcards.shard:q} \
            --shards {params.n_shards:q} \
            --cache-gib {resources.cache_gib:q} \
            --output {output.ships:q} \
            --output-subspace {output.subspace:q}
        """


rule score_group:
    input:
        script="scripts/score_group.py",
        code=code("scripts/score_group.py"),
        model="<results>/models/{model}/model.json",
        queries="<results>/queries/{dataset}.parquet",
        earlier=lambda wildcards: score_parts(wildcards, subspace_names(1, int(wildcards.step) - 1)),
    output:
        "<results>/scores/{model}/{dataset}/{format}/subspace-{step}-{shard}.parquet",
    log:
        "<logs>/score_group/{model}/{dataset}/{format}/{step}-{shard}.log",
    benchmark:
        "<benchmarks>/score_group/{model}/{dataset}/{format}/{step}-{shard}.tsv"
    priority: 10
    conda:
        "../envs/safety-heads.yaml"
    threads: HALF
    resources:
        gpu=GPU,
        mem_mb=memory,
        runtime=runtime,
        cache_gib=4,  # more of the blocks' inputs go to temporary files
    params:
        model=model_options,
        format=format_arguments,
        queries=query_options("score_queries"),
        ablations=RUN["ablations"],
        epsilons=[config["ablations"][name] for name in RUN["ablations"]],
        rank=RUN["rank"],
        candidates=["--candidates", RUN["candidates"]] if RUN["candidates"] else [],
        n_shards=lambda wildcards: len(shards(wildcards.model)),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} {params.model:q} {params.format:q} \
            --queries {input.queries:q} {params.queries:q} \
            --ablation {params.ablations:q} \
            --epsilon {params.epsilons:q} \
            --subspace {input.earlier:q} \
            --rank {params.rank:q} {params.candidates:q} \
            --shard {wildcards.shard:q} \
            --shards {params.n_shards:q} \
            --cache-gib {resources.cache_gib:q} \
            --output {output:q}
        """


rule gather_ships:
    input:
        script="scripts/gather_table.py",
        code=code("scripts/gather_table.py"),
        parts=lambda wildcards: score_parts(wildcards, "ships", dataset=RUN["queries"], format=RUN["formats"]),
    output:
        "<results>/tables/{model}/ships.parquet",
    log:
        "<logs>/gather_ships/{model}.log",
    benchmark:
        "<benchmarks>/gather_ships/{model}.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        table="ships",
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} --table {params.table:q} --inputs {input.parts:q} --output {output:q}
        """


use rule gather_ships as gather_subspace with:
    input:
        script="scripts/gather_table.py",
        code=code("scripts/gather_table.py"),
        parts=all_subspace,
    output:
        "<results>/tables/{model}/subspace.parquet",
    log:
        "<logs>/gather_subspace/{model}.log",
    benchmark:
        "<benchmarks>/gather_subspace/{model}.tsv"
    params:
        table="subspace",
