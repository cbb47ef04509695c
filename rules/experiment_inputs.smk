"""What the rules of the experiments ask of the configuration."""

EXPERIMENT = "<results>/experiments/{experiment}/{model}/{dataset}"


def experiment_format(wildcards):
    return selection.experiment_format(config, wildcards.experiment, wildcards.model)


def experiment_interventions(wildcards):
    """The run's interventions in the experiment's format; none if no head is ablated in it."""
    if config["experiments"][wildcards.experiment]["interventions"] == ["none"]:
        return []
    return collect(f"{SCORES}/interventions.parquet", format=experiment_format(wildcards)["name"], **wildcards)


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
    """One file for every experiment with the model, harmful data set and judge."""
    names = selection.experiments(config, wildcards.model)
    files = collect(
        f"{EXPERIMENT}/{name}.parquet", model=wildcards.model, experiment=names, dataset=HARMFUL, judge=RUN["judges"]
    )
    return list(dict.fromkeys(files))
