"""Checks the configuration and answers what the rules ask of it. Nothing heavy is imported here."""

import json
import re
import shutil

import yaml

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from safety_heads import config_check, imports, selection
from safety_heads.errors import UserError

RESULTS = config.get("pathvars", {}).get("results", "results")

validate(config, "../schemas/config.schema.yaml")
try:
    config_check.check(config)
    config_check.check_folder(RESULTS)
except UserError as error:
    raise WorkflowError(str(error)) from None

RUN = config["run"]
HARMFUL = selection.harmful_queries(config)
BENIGN = [dataset for dataset in RUN["queries"] if dataset not in HARMFUL]
ALIGNED = selection.aligned_models(config)
HALF = max(1, (workflow.resource_settings.cores or 1) // 2)  # two heavy jobs side by side use all cores best
GPU = int(shutil.which("nvidia-smi") is not None)  # of this machine; profiles/slurm asks for the cluster's
SCORES = "<results>/scores/{model}/{dataset}/{format}"
ASR_MAP = "<results>/asr_map/{model}/{dataset}/{format}"


wildcard_constraints:
    model="|".join(map(re.escape, config["models"])),
    dataset="|".join(map(re.escape, config["queries"])),
    source="|".join(map(re.escape, config["sources"])),
    format="|".join(map(re.escape, config["formats"])),
    judge="|".join(map(re.escape, config["judges"])),
    experiment="|".join(map(re.escape, config["experiments"])) or "none",
    side="train|eval",
    shard=r"\d+",
    step=r"[2-9]|[1-9]\d+",


def code(script):
    """The modules a script needs: inputs of its rule, so that it reruns when, and only when, their content changes."""
    modules = imports.package_modules(Path(workflow.basedir) / script)
    return [str(Path(path).relative_to(workflow.basedir)) for path in modules]


def model_inputs(wildcards):
    """What a model is made from, by how it is declared."""
    declared = config["models"][wildcards.model]
    if "align" in declared:
        aligned = f"<results>/aligned/{wildcards.model}"
        return {"weights": f"{aligned}/model.safetensors", "card": f"{aligned}.card.json"}
    if "hub" in declared:
        return {"source": f"<results>/hub/{wildcards.model}.json"}
    if "source" in declared:
        return {"source": f"<results>/sources/{declared['source']}.json"}
    return {"files": selection.model_files(config, wildcards.model)}


def model_origin(wildcards, input):
    """The options that tell prepare_model.py where the model comes from."""
    declared = config["models"][wildcards.model]
    if "align" in declared:
        return ["--path", str(Path(input.weights).parent), "--card", input.card]
    if "source" in input.keys():
        return ["--source", input.source, *selection.command_line({"member": declared.get("gguf")})]
    return ["--path", str(Path(declared.get("path") or declared["gguf"]).expanduser())]


def hub_declaration(wildcards):
    declared = config["models"][wildcards.model]
    hub = {"kind": "hub", "repo": declared["hub"], "revision": declared["revision"], "repo_type": "model"}
    return json.dumps(hub)


def model_options(wildcards):
    """Which model a script loads, and how. It must not ask for `input`: such params do not count as changed."""
    declared = config["models"][wildcards.model]
    how = {"dtype": declared.get("dtype"), "device": declared.get("device")}
    return selection.command_line({"model": f"{RESULTS}/models/{wildcards.model}", "name": wildcards.model, **how})


def format_arguments(wildcards):
    return selection.format_line(selection.format_options(config, wildcards.format, wildcards.model))


def formats_of(wildcards):
    return json.dumps([selection.format_options(config, name, wildcards.model) for name in RUN["formats"]])


def query_options(number):
    return selection.command_line({"n": RUN[number], "side": RUN["side"], "seed": config["seed"]})


def query_tables(names):
    return collect("<results>/queries/{dataset}.parquet", dataset=list(dict.fromkeys(names)))


def align(wildcards):
    return config["models"][wildcards.model]["align"]


def shards(model):
    return range(1, config["models"][model].get("head_shards", 1) + 1)


def score_parts(wildcards, names, **values):
    """Parts of score tables, over the model's shards; `values` stand in for wildcards that the rule does not have."""
    known = {**dict(wildcards.items()), **values, "name": names, "shard": shards(wildcards.model)}
    return collect(f"{SCORES}/{{name}}-{{shard}}.parquet", **known)


def map_parts(name):
    return lambda wildcards: collect(f"{ASR_MAP}/{name}-{{shard}}.parquet", shard=shards(wildcards.model), **wildcards)


def subspace_names(first, last):
    return [f"subspace-{step}" for step in range(first, last + 1)]


def all_subspace(wildcards):
    """A model's generalised Ships: all steps on the harmful data sets, the first on the benign ones."""
    names, formats = subspace_names(1, RUN["group_size"]), RUN["formats"]
    harmful = score_parts(wildcards, names, dataset=HARMFUL, format=formats)
    return harmful + score_parts(wildcards, "subspace-1", dataset=BENIGN, format=formats)


def attacks(pattern):
    """`pattern` for every setting in which answers are generated, by the headline's judge."""
    run = {"model": RUN["models"], "format": RUN["formats"], "judge": RUN["judges"][0]}
    return list(dict.fromkeys(collect(pattern, dataset=HARMFUL, **run)))


def tables_of_models(table):
    return collect("<results>/tables/{model}/{table}.parquet", model=RUN["models"], table=table)


def all_figures():
    """In the order of the report: what ablation does first, then where the heads are."""
    of_model = ["asr_bars-{judge}", "asr_judges", "ships_heatmap-{format}", "group_size-{judge}"]
    of_model += ["group_size_query-{judge}", *["contrast-{format}"] * bool(BENIGN), "sign-{dataset}-{format}"]
    figures = [attacks(f"<results>/figures/{{model}}/{name}.png") for name in of_model]
    shared = ["overlap_models"] * (len(RUN["models"]) > 1) + ["overlap_ablations"] * (len(RUN["ablations"]) > 1)
    shared += attacks("score_distribution-{dataset}-{format}")
    return [*(path for one in figures for path in one), *collect("<results>/figures/{name}.png", name=shared)]
