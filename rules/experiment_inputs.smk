"""What the rules of the experiments ask of the configuration."""

EXPERIMENT = "<results>/experiments/{experiment}/{model}/{dataset}"


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
    """One file for every experiment with the model, and its data sets."""
    files = []
    for experiment in selection.experiments(config, wildcards.model):
        datasets = BENIGN if config["experiments"][experiment].get("benign") else HARMFUL
        known = {"model": wildcards.model, "experiment": experiment, "dataset": datasets}
        files += collect(f"{EXPERIMENT}/{name}.parquet", **known)
    return list(dict.fromkeys(files))
