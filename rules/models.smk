"""Models: every one becomes a folder that transformers reads; some are aligned here first and must pass their exam.

in: config models and alignment, queries   out: <results>/models/{model}/model.json (beside the weights)
"""


rule fetch_model:
    input:
        script="scripts/fetch_source.py",
        code=code("scripts/fetch_source.py"),
    output:
        "<results>/hub/{model}.json",
    log:
        "<logs>/fetch_model/{model}.log",
    benchmark:
        "<benchmarks>/fetch_model/{model}.tsv"
    priority: 100
    retries: 1
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        declaration=hub_declaration,
        files=lambda wildcards: selection.hub_model_files(config, wildcards.model),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            --name {wildcards.model:q} \
            --declaration {params.declaration:q} \
            --files {params.files:q} \
            --output {output:q}
        """


rule prepare_model:
    input:
        unpack(model_inputs),
        script="scripts/prepare_model.py",
        code=code("scripts/prepare_model.py"),
    output:
        "<results>/models/{model}/model.json",
    log:
        "<logs>/prepare_model/{model}.log",
    benchmark:
        "<benchmarks>/prepare_model/{model}.tsv"
    priority: 100
    conda:
        "../envs/safety-heads.yaml"
    threads: HALF
    resources:
        mem_mb=memory,
        runtime=runtime,
    params:
        origin=model_origin,
        allowed=lambda wildcards: selection.allowances(config, wildcards.model),
        group_size=RUN["group_size"],
        n_shards=lambda wildcards: len(shards(wildcards.model)),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} --name {wildcards.model:q} {params.origin:q} {params.allowed:q} \
            --group-size {params.group_size:q} \
            --shards {params.n_shards:q} \
            --output {output:q}
        """


rule answer_benign_queries:
    input:
        script="scripts/generate_responses.py",
        code=code("scripts/generate_responses.py"),
        model="<results>/models/{model}/model.json",
        queries=query_tables(selection.benign_answers(config)),
        checked=ancient("<results>/queries/overlaps.csv"),
    output:
        "<results>/aligned/{model}.answers-{side}.parquet",
    log:
        "<logs>/answer_benign_queries/{model}-{side}.log",
    benchmark:
        "<benchmarks>/answer_benign_queries/{model}-{side}.tsv"
    priority: 50
    conda:
        "../envs/safety-heads.yaml"
    threads: lambda wildcards: 2 * HALF if wildcards.side == "train" else HALF  # all else waits for the training side
    resources:
        gpu=GPU,
        mem_mb=memory,
        runtime=runtime,
    params:
        folder=lambda wildcards, input: str(Path(input.model).parent),
        device=lambda wildcards: config["models"][wildcards.model].get("device", "auto"),
        decodings=lambda wildcards: json.dumps({"greedy": selection.answer_length(config, wildcards.side)}),
        n=lambda wildcards: ["--n", config["alignment"]["exam"]["n"]] if wildcards.side == "eval" else [],
        seed=config["seed"],
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            --model {params.folder:q} \
            --device {params.device:q} \
            --queries {input.queries:q} \
            --side {wildcards.side:q} {params.n:q} \
            --seed {params.seed:q} \
            --format chat \
            --decodings {params.decodings:q} \
            --output {output:q}
        """


rule align_model:
    input:
        script="scripts/align_model.py",
        code=code("scripts/align_model.py"),
        base=lambda wildcards: f"<results>/models/{align(wildcards)['base']}/model.json",
        queries=lambda wildcards: query_tables([*align(wildcards)["harmful"], *align(wildcards)["benign"]]),
        answers=lambda wildcards: f"<results>/aligned/{align(wildcards)['base']}.answers-train.parquet",
    output:
        weights="<results>/aligned/{model}/model.safetensors",
        losses="<results>/aligned/{model}.losses.csv",
    log:
        "<logs>/align_model/{model}.log",
    benchmark:
        "<benchmarks>/align_model/{model}.tsv"
    priority: 50
    conda:
        "../envs/safety-heads.yaml"
    threads: HALF
    resources:
        gpu=GPU,
        mem_mb=memory,
        runtime=runtime,
    params:
        base=lambda wildcards, input: str(Path(input.base).parent),
        folder=lambda wildcards, output: str(Path(output.weights).parent),
        device=lambda wildcards: config["models"][wildcards.model].get("device", "auto"),
        formats=formats_of,
        lesson=lambda wildcards: json.dumps(selection.lesson(config, wildcards.model)),
        recipe=lambda wildcards: json.dumps({**config["alignment"]["recipe"], "seed": align(wildcards)["seed"]}),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            --base {params.base:q} \
            --queries {input.queries:q} \
            --answers {input.answers:q} \
            --formats {params.formats:q} \
            --lesson {params.lesson:q} \
            --recipe {params.recipe:q} \
            --device {params.device:q} \
            --output {params.folder:q} \
            --output-losses {output.losses:q}
        """


rule measure_alignment:
    input:
        script="scripts/measure_alignment.py",
        code=code("scripts/measure_alignment.py"),
        weights="<results>/aligned/{model}/model.safetensors",
        base=lambda wildcards: f"<results>/models/{align(wildcards)['base']}/model.json",
        queries=query_tables(selection.examined_queries(config)),
        answers=lambda wildcards: f"<results>/aligned/{align(wildcards)['base']}.answers-eval.parquet",
    output:
        "<results>/aligned/{model}.card.json",
    log:
        "<logs>/measure_alignment/{model}.log",
    benchmark:
        "<benchmarks>/measure_alignment/{model}.tsv"
    priority: 50
    conda:
        "../envs/safety-heads.yaml"
    threads: HALF
    resources:
        gpu=GPU,
        mem_mb=memory,
        runtime=runtime,
    params:
        base=lambda wildcards, input: str(Path(input.base).parent),
        folder=lambda wildcards, input: str(Path(input.weights).parent),
        device=lambda wildcards: config["models"][wildcards.model].get("device", "auto"),
        formats=formats_of,
        exam=json.dumps(selection.exam(config)),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            --model {params.folder:q} \
            --base {params.base:q} \
            --queries {input.queries:q} \
            --answers {input.answers:q} \
            --formats {params.formats:q} \
            --exam {params.exam:q} \
            --device {params.device:q} \
            --output {output:q}
        """
