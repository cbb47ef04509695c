"""What a run would take, before anything is fetched or submitted. Targets: plan (of `all`), plan_paper (of `paper`).

in: the configuration   out: text on the screen
"""


rule plan:
    input:
        script="scripts/plan_run.py",
        code=code("scripts/plan_run.py"),
    log:
        "<logs>/plan.log",
    benchmark:
        "<benchmarks>/plan.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        config=lambda wildcards: json.dumps(config),
        targets=["all"],
        options=scheduler_options(),
    shell:
        r"""
        python {input.script:q} --config {params.config:q} --targets {params.targets:q} --options {params.options:q} \
            2>&1 | tee {log:q}
        """


use rule plan as plan_paper with:
    log:
        "<logs>/plan_paper.log",
    benchmark:
        "<benchmarks>/plan_paper.tsv"
    params:
        config=lambda wildcards: json.dumps(config),
        targets=["paper"],
        options=scheduler_options(),
