"""The map of attack success rates: answers with every single head ablated (paper, fig. 4b). Target: asr_map.

in: a model, queries, Ships   out: <results>/asr_map/{model}/{dataset}/{format}/..., <results>/figures/{model}/asr_map-...
The run's first ablation and first decoding are taken; the heads are dealt to as many jobs as the model has shards.
"""


rule list_heads:
    input:
        script="scripts/list_heads.py",
        code=code("scripts/list_heads.py"),
        model="<results>/models/{model}/model.json",
    output:
        f"{ASR_MAP}/heads-{{shard}}.parquet",
    log:
        "<logs>/list_heads/{model}/{dataset}/{format}-{shard}.log",
    benchmark:
        "<benchmarks>/list_heads/{model}/{dataset}/{format}-{shard}.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        model=model_options,
        format=format_arguments,
        ablation=RUN["ablations"][0],
        epsilon=config["ablations"][RUN["ablations"][0]],
        n_shards=lambda wildcards: len(shards(wildcards.model)),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} {params.model:q} {params.format:q} \
            --dataset {wildcards.dataset:q} \
            --ablation {params.ablation:q} \
            --epsilon {params.epsilon:q} \
            --shard {wildcards.shard:q} \
            --shards {params.n_shards:q} \
            --output {output:q}
        """


use rule generate_responses as answer_for_map with:
    input:
        script="scripts/generate_responses.py",
        code=code("scripts/generate_responses.py"),
        model="<results>/models/{model}/model.json",
        queries="<results>/queries/{dataset}.parquet",
        interventions=f"{ASR_MAP}/heads-{{shard}}.parquet",
    output:
        f"{ASR_MAP}/answers-{{shard}}.parquet",
    log:
        "<logs>/answer_for_map/{model}/{dataset}/{format}-{shard}.log",
    benchmark:
        "<benchmarks>/answer_for_map/{model}/{dataset}/{format}-{shard}.tsv"
    params:
        model=model_options,
        format=format_arguments,
        queries=query_options("generate_queries"),
        decodings=json.dumps({RUN["decodings"][0]: config["decodings"][RUN["decodings"][0]]}),
        variant=[],


use rule judge_responses as judge_for_map with:
    input:
        script="scripts/judge_responses.py",
        code=code("scripts/judge_responses.py"),
        judge=lambda wildcards: selection.judge_files(config, wildcards.judge, "<results>"),
        queries="<results>/queries/{dataset}.parquet",
        responses=map_parts("answers"),
    output:
        f"{ASR_MAP}/judgements-{{judge}}.parquet",
    log:
        "<logs>/judge_for_map/{model}/{dataset}/{format}-{judge}.log",
    benchmark:
        "<benchmarks>/judge_for_map/{model}/{dataset}/{format}-{judge}.tsv"


use rule summarise_asr as summarise_map with:
    input:
        script="scripts/summarise_asr.py",
        code=code("scripts/summarise_asr.py"),
        judgements=f"{ASR_MAP}/judgements-{{judge}}.parquet",
        interventions=map_parts("heads"),
        manifests="<results>/models/{model}/model.json",
    output:
        f"{ASR_MAP}/asr-{{judge}}.parquet",
    log:
        "<logs>/summarise_map/{model}/{dataset}/{format}-{judge}.log",
    benchmark:
        "<benchmarks>/summarise_map/{model}/{dataset}/{format}-{judge}.tsv"


rule draw_asr_map:
    input:
        script="scripts/draw_asr_map.py",
        code=code("scripts/draw_asr_map.py"),
        asr=f"{ASR_MAP}/asr-{{judge}}.parquet",
        heads=map_parts("heads"),
        ships=lambda wildcards: score_parts(wildcards, "ships"),
    output:
        png=report(
            "<results>/figures/{model}/asr_map-{dataset}-{format}-{judge}.png",
            caption="../report/asr_map.rst",
            category="Attack success",
            labels={"figure": "every head, {dataset}", "model": "{model}", "format": "{format}"},
        ),
        pdf="<results>/figures/{model}/asr_map-{dataset}-{format}-{judge}.pdf",
    log:
        "<logs>/draw_asr_map/{model}/{dataset}/{format}-{judge}.log",
    benchmark:
        "<benchmarks>/draw_asr_map/{model}/{dataset}/{format}-{judge}.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            --asr {input.asr:q} \
            --interventions {input.heads:q} \
            --ships {input.ships:q} \
            --output {output.png:q}
        """
