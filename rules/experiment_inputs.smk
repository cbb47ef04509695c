"""What the targets beside the default run ask of the configuration."""

from types import SimpleNamespace

EXPERIMENT = "<results>/experiments/{experiment}/{model}/{dataset}"
JUDGED = "<results>/experiments/judgements/{judge}/{model}"
BESIDE = {  # the figures of each target
    "experiments": "<results>/figures/{model}/experiments-{judge}.png",
    "asr_map": "<results>/figures/{model}/asr_map-{dataset}-{format}-{judge}.png",
    "attention_maps": "<results>/figures/{model}/attention_maps-{dataset}-{format}.png",
    "helpfulness": "<results>/figures/{model}/helpfulness.png",
}


def figures_beside():
    """All of them, in the order of the full report."""
    return [figure for pattern in BESIDE.values() for figure in attacks(pattern)]


def experiment_format(wildcards):
    return selection.experiment_format(config, wildcards.experiment, wildcards.model)


def experiment_interventions(wildcards):
    """The run's interventions and controls in the experiment's format; none if no head is ablated in it."""
    how = config["experiments"][wildcards.experiment]
    if how["interventions"] == ["none"]:
        return []
    dataset = HARMFUL[0] if how.get("benign") else wildcards.dataset
    known = {"model": wildcards.model, "dataset": dataset, "format": experiment_format(wildcards)["name"]}
    return collect(f"{SCORES}/{{name}}.parquet", name=["interventions", "controls"], **known)


def experiment_donor(wildcards):
    if "transplant" not in config["experiments"][wildcards.experiment]:
        return []
    return f"<results>/models/{selection.base_of(config, wildcards.model)}/model.json"


def experiment_options(wildcards):
    """What is done to the model and to its answers. It must not ask for `input`, as for `model_options`."""
    how = config["experiments"][wildcards.experiment]
    options = {"begin": how.get("begin"), "transplant": how.get("transplant")}
    if "transplant" in how:
        options["donor"] = f"{RESULTS}/models/{selection.base_of(config, wildcards.model)}"
    return selection.command_line(options)


def experiment_parts(wildcards, name, benign):
    """One file for every experiment with the model on harmful, or on benign queries, and its data sets."""
    declared = {one: config["experiments"][one] for one in selection.experiments(config, wildcards.model)}
    names = [one for one, how in declared.items() if how.get("benign", False) is benign]
    known = {"model": wildcards.model, "experiment": names, "dataset": BENIGN if benign else HARMFUL}
    return list(dict.fromkeys(collect(f"{EXPERIMENT}/{name}.parquet", **known)))


def experiment_judgements(wildcards):
    files = []
    for benign, end in ((False, ""), (True, "-benign")):
        if experiment_parts(wildcards, "answers", benign):
            files += collect(f"{JUDGED}{end}.parquet", model=wildcards.model, judge=RUN["judges"])
    return files


def experiment_decodings(wildcards):
    """The run's; of benign answers, which every run makes, only the first, the headline's."""
    benign = config["experiments"][wildcards.experiment].get("benign")
    names = RUN["decodings"][:1] if benign else RUN["decodings"]
    return json.dumps({name: config["decodings"][name] for name in names})


def benign_experiments():
    """The models that are asked benign queries, as if they were wildcards."""
    models = [SimpleNamespace(model=model) for model in RUN["models"]]
    return [one for one in models if experiment_parts(one, "plan", benign=True)]


def benign_judgements():
    names = [one.model for one in benign_experiments()]
    return collect(f"{JUDGED}-benign.parquet", model=names, judge=RUN["judges"])


def benign_plans():
    return [path for one in benign_experiments() for path in experiment_parts(one, "plan", benign=True)]
