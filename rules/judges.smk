"""Judges: those that are fitted, and how far each can be trusted on answers that people have labelled.

in: config judges and labelled   out: <results>/labelled/..., <results>/judges/..., <results>/figures/{model}/asr_judges.*
Target judge_cards measures every declared judge on the run's labelled sets; a run measures its own judges.
"""


wildcard_constraints:
    labelled="|".join(map(re.escape, config["labelled"])),


rule prepare_labelled:
    input:
        script="scripts/prepare_labelled.py",
        code=code("scripts/prepare_labelled.py"),
        source=lambda wildcards: f"<results>/sources/{config['labelled'][wildcards.labelled]['source']}.json",
    output:
        "<results>/labelled/{labelled}.parquet",
    log:
        "<logs>/prepare_labelled/{labelled}.log",
    benchmark:
        "<benchmarks>/prepare_labelled/{labelled}.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        declaration=lambda wildcards: json.dumps(config["labelled"][wildcards.labelled]),
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            --name {wildcards.labelled:q} \
            --declaration {params.declaration:q} \
            --source {input.source:q} \
            --output {output:q}
        """


rule fit_judge:
    input:
        script="scripts/fit_judge.py",
        code=code("scripts/fit_judge.py"),
        labelled=lambda wildcards: f"<results>/labelled/{config['judges'][wildcards.judge]['labelled']}.parquet",
    output:
        "<results>/judges/{judge}.npz",
    log:
        "<logs>/fit_judge/{judge}.log",
    benchmark:
        "<benchmarks>/fit_judge/{judge}.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} --labelled {input.labelled:q} --output {output:q}
        """


rule grade_judge:
    input:
        script="scripts/grade_judge.py",
        code=code("scripts/grade_judge.py"),
        judge=lambda wildcards: selection.judge_files(config, wildcards.judge, "<results>"),
        labelled="<results>/labelled/{labelled}.parquet",
    output:
        "<results>/judges/{judge}/{labelled}.parquet",
    log:
        "<logs>/grade_judge/{judge}/{labelled}.log",
    benchmark:
        "<benchmarks>/grade_judge/{judge}/{labelled}.tsv"
    conda:
        "../envs/safety-heads.yaml"
    resources:
        gpu=lambda wildcards: selection.judge_gpu(config, wildcards.judge, GPU),
        mem_mb=memory,
        runtime=runtime,
    params:
        judge=lambda wildcards: selection.judge_options(config, wildcards.judge, RESULTS),
        by="query",
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} {params.judge:q} --by {params.by:q} --labelled {input.labelled:q} --output {output:q}
        """


use rule grade_judge as grade_by_category with:
    input:
        script="scripts/grade_judge.py",
        code=code("scripts/grade_judge.py"),
        judge=lambda wildcards: selection.judge_files(config, wildcards.judge, "<results>"),
        labelled=lambda wildcards: f"<results>/labelled/{config['judges'][wildcards.judge]['labelled']}.parquet",
    output:
        "<results>/judges/{judge}/left-out.parquet",
    log:
        "<logs>/grade_by_category/{judge}.log",
    benchmark:
        "<benchmarks>/grade_by_category/{judge}.tsv"
    params:
        judge=lambda wildcards: selection.judge_options(config, wildcards.judge, RESULTS),
        by="category",


rule tabulate_cards:
    input:
        script="scripts/tabulate_cards.py",
        code=code("scripts/tabulate_cards.py"),
        graded=collect("<results>/judges/{judge}/{labelled}.parquet", judge=config["judges"], labelled=RUN["labelled"]),
        left_out=collect("<results>/judges/{judge}/left-out.parquet", judge=selection.fitted_judges(config)),
    output:
        csv=report(
            "<results>/judges/cards.csv",
            caption="../report/judge_cards.rst",
            category="Judges",
            labels={"table": "judge cards", "model": "all"},
        ),
        categories="<results>/judges/categories.csv",
        png=report(
            "<results>/judges/cards.png",
            caption="../report/judge_cards.rst",
            category="Judges",
            labels={"figure": "judge cards", "model": "all"},
        ),
        pdf="<results>/judges/cards.pdf",
    log:
        "<logs>/tabulate_cards.log",
    benchmark:
        "<benchmarks>/tabulate_cards.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            --graded {input.graded:q} {input.left_out:q} \
            --output-csv {output.csv:q} \
            --output-categories {output.categories:q} \
            --output-figure {output.png:q}
        """


rule draw_judges:
    input:
        script="scripts/draw_judges.py",
        code=code("scripts/draw_judges.py"),
        asr="<results>/tables/{model}/asr.parquet",
        graded=collect(f"<results>/judges/{{judge}}/{RUN['labelled'][0]}.parquet", judge=RUN["judges"]),
    output:
        png=report(
            "<results>/figures/{model}/asr_judges.png",
            caption="../report/asr_judges.rst",
            category="Attack success",
            labels={"figure": "one head, every judge", "model": "{model}"},
        ),
        pdf="<results>/figures/{model}/asr_judges.pdf",
    log:
        "<logs>/draw_judges/{model}.log",
    benchmark:
        "<benchmarks>/draw_judges/{model}.tsv"
    localrule: True
    conda:
        "../envs/safety-heads.yaml"
    params:
        labelled=RUN["labelled"][0],
        ablation=RUN["ablations"][0],
    shell:
        r"""
        exec &> >(tee {log:q})
        python {input.script:q} \
            --asr {input.asr:q} \
            --graded {input.graded:q} \
            --labelled-set {params.labelled:q} \
            --ablation {params.ablation:q} \
            --output {output.png:q}
        """
