"""What a run would take, before anything is fetched or submitted. Targets: plan (of `all`), plan_paper (of `paper`).

in: the configuration   out: text on the screen
Without benchmarks, for Snakemake would take their files for outputs and plan only once.
"""


rule plan:
    input:
        script="scripts/plan_run.py",
        code=code("scripts/plan_run.py"),
    log:
        "<logs>/plan.log",
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
    params:
        config=lambda wildcards: json.dumps(config),
        targets=["paper"],
        options=scheduler_options(),
