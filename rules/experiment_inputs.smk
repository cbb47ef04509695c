"""What the targets beside the default run ask of the configuration."""

EXPERIMENT = "<results>/experiments/{experiment}/{model}/{dataset}"
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


def experiment_parts(wildcards, name):
    """One file for every experiment with the model, and its data sets and judges."""
    files = []
    for experiment in selection.experiments(config, wildcards.model):
        datasets = BENIGN if config["experiments"][experiment].get("benign") else HARMFUL
        known = {"model": wildcards.model, "experiment": experiment, "dataset": datasets, "judge": RUN["judges"]}
        files += collect(f"{EXPERIMENT}/{name}.parquet", **known)
    return list(dict.fromkeys(files))


def experiment_decodings(wildcards):
    """The run's; of benign answers, which every run makes, only the first, the headline's."""
    benign = config["experiments"][wildcards.experiment].get("benign")
    names = RUN["decodings"][:1] if benign else RUN["decodings"]
    return json.dumps({name: config["decodings"][name] for name in names})


def benign_parts(name):
    """One file for every model, benign data set and judge of the experiments on benign queries."""
    files = []
    for model in RUN["models"]:
        names = [one for one in selection.experiments(config, model) if config["experiments"][one].get("benign")]
        known = {"model": model, "experiment": names, "dataset": BENIGN, "judge": RUN["judges"]}
        files += collect(f"{EXPERIMENT}/{name}.parquet", **known)
    return list(dict.fromkeys(files))
