"""Attention patterns of the head that Ships puts first, as it is scaled down (paper, figs. 7, 8). Target: attention_maps.

in: a model, queries, interventions   out: <results>/scores/{model}/{dataset}/{format}/patterns.parquet, <results>/figures/...
"""


rule trace_attention:
    input:
        script="scripts/trace_attention.py",
        code=code("scripts/trace_attention.py"),
        model="<results>/models/{model}/model.json",
        queries="<results>/queries/{dataset}.parquet",
        interventions=f"{SCORES}/interventions.parquet",
    output:
        f"{SCORES}/patterns.parquet",
    log:
        "<logs>/trace_attention/{model}/{dataset}/{format}.log",
    benchmark:
        "<benchmarks>/trace_attention/{model}/{dataset}/{format}.tsv"
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
        queries=selection.command_line({"n": 3, "side": RUN["side"], "seed": config["seed"]}),
        of=f"ships-{RUN['ablations'][0]}-1",
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} {params.model:q} {params.format:q} \
            --queries {input.queries:q} {params.queries:q} \
            --interventions {input.interventions:q} \
            --of {params.of:q} \
            --output {output:q}
        """


use rule draw_ships_heatmap as draw_attention_maps with:
    input:
        script="scripts/draw_figure.py",
        code=code("scripts/draw_figure.py"),
        tables=f"{SCORES}/patterns.parquet",
    output:
        png=report(
            "<results>/figures/{model}/attention_maps-{dataset}-{format}.png",
            caption="../report/attention_maps.rst",
            category="Heads",
            labels={"figure": "attention maps, {dataset}", "model": "{model}", "format": "{format}"},
        ),
        pdf="<results>/figures/{model}/attention_maps-{dataset}-{format}.pdf",
    log:
        "<logs>/draw_attention_maps/{model}-{dataset}-{format}.log",
    benchmark:
        "<benchmarks>/draw_attention_maps/{model}-{dataset}-{format}.tsv"
    params:
        figure="attention_maps",
        options=[],
