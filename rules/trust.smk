"""The record of a run, and its results held against it. Target: verify.

in: everything in <results>   out: <results>/manifest.json
verify has no benchmark, for Snakemake would take its file for an output and run it only once.
"""


rule record_run:
    input:
        script="scripts/record_run.py",
        code=code("scripts/record_run.py"),
        config="<results>/config.yaml",
        after=["<results>/report/index.html", "<results>/queries/overlaps.csv"],
    output:
        "<results>/manifest.json",
    log:
        "<logs>/record_run.log",
    benchmark:
        "<benchmarks>/record_run.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        config=lambda wildcards: json.dumps(config),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} --config {params.config:q} --output {output:q}
        """


rule verify:
    input:
        script="scripts/verify_run.py",
        code=code("scripts/verify_run.py"),
    log:
        "<logs>/verify.log",
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    threads: HALF
    params:
        manifest=f"{RESULTS}/manifest.json",
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} --manifest {params.manifest:q}
        """
