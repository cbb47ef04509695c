"""What a run needs, read off its configuration: which models, data sets and files. Nothing heavy is imported."""

import json
from collections.abc import Mapping
from pathlib import Path

from safety_heads.judges.presets import prompt_files


def used_models(config: Mapping) -> list[str]:
    """The run's models and the bases of those that are aligned first."""
    models = config["models"]
    bases = [models[name]["align"]["base"] for name in config["run"]["models"] if "align" in models[name]]
    return list(dict.fromkeys([*bases, *config["run"]["models"]]))


def aligned_models(config: Mapping) -> list[str]:
    """Those of the run's models that the workflow aligns itself."""
    return [name for name in config["run"]["models"] if "align" in config["models"][name]]


def used_queries(config: Mapping) -> list[str]:
    """The run's data sets, and those that alignment teaches or examines."""
    used = [*config["run"]["queries"]]
    for model in aligned_models(config):
        lesson = config["models"][model]["align"]
        used += [*lesson["harmful"], *lesson["benign"], *examined_queries(config)]
    return list(dict.fromkeys(used))


def examined_queries(config: Mapping) -> list[str]:
    """The data sets of the exam, those that are only watched last."""
    return [*config["alignment"]["exam"]["queries"], *config["alignment"]["exam"]["watched"]]


def harmful_queries(config: Mapping) -> list[str]:
    """The run's harmful data sets: those that are attacked."""
    return [name for name in config["run"]["queries"] if config["queries"][name]["harmful"]]


def used_sources(config: Mapping) -> list[str]:
    """The sources of the used data sets, models and judges, and of the labelled sets."""
    of_models = [config["models"][name].get("source") for name in used_models(config)]
    of_queries = [config["queries"][name]["source"] for name in used_queries(config)]
    of_judges = [config["judges"][name].get("source") for name in config["run"]["judges"]]
    of_labelled = [config["labelled"][name]["source"] for name in used_labelled(config)]
    return [name for name in dict.fromkeys([*of_models, *of_queries, *of_judges, *of_labelled]) if name]


def used_labelled(config: Mapping) -> list[str]:
    """The labelled sets of the run, and those that its judges are fitted to."""
    fitted_to = [config["judges"][name].get("labelled") for name in config["run"]["judges"]]
    return [name for name in dict.fromkeys([*config["run"]["labelled"], *fitted_to]) if name]


def fitted_judges(config: Mapping) -> list[str]:
    """Those that are fitted to sets with categories of harm, which can be left out one by one."""
    fitted_to = {name: declared.get("labelled") for name, declared in config["judges"].items()}
    return [name for name, labelled in fitted_to.items() if labelled and "category" in config["labelled"][labelled]]


def judge_files(config: Mapping, judge: str, results: str) -> list[str]:
    """What must be there before a judge can be opened, below the folder `results`."""
    declared = config["judges"][judge]
    if declared["kind"] == "fitted":
        return [f"{results}/judges/{judge}.npz"]
    if declared["kind"].startswith("llm-"):
        prompts = [f"data/judge_prompts/{file.name}" for file in prompt_files(declared["preset"])]
        local = [f"{results}/models/{declared['model']}/model.json"] if declared["kind"] == "llm-local" else []
        return [*local, *prompts]
    return [f"{results}/sources/{declared['source']}.json"] if "source" in declared else []


def judge_options(config: Mapping, judge: str, results: str) -> list[str]:
    """How a program opens a judge: its name, declaration, and the place that its kind reads or keeps its cache in."""
    declared = config["judges"][judge]
    files = judge_files(config, judge, results)
    places = {"llm-local": f"{results}/models/{declared.get('model')}", "llm-remote": f"{results}/judges/cache/{judge}"}
    place = places.get(declared["kind"], files[0] if files else None)
    return command_line({"judge": judge, "declaration": json.dumps(declared), "place": place})


def judge_gpu(config: Mapping, judge: str, gpu: int) -> int:
    """Only a local model wants a GPU."""
    return gpu if config["judges"][judge]["kind"] == "llm-local" else 0


def benign_answers(config: Mapping) -> list[str]:
    """Benign data sets that alignment teaches or examines: the base model's own answers to them are the yardstick."""
    taught = [name for model in aligned_models(config) for name in config["models"][model]["align"]["benign"]]
    examined = [name for name in examined_queries(config) if not config["queries"][name]["harmful"]]
    return list(dict.fromkeys([*taught, *examined]))


def answer_length(config: Mapping, side: str) -> dict:
    """The decoding of the base model's answers: short ones are taught, whole ones are the exam's yardstick."""
    alignment = config["alignment"]
    return {"max_new_tokens": alignment["answer_tokens"] if side == "train" else alignment["exam"]["max_new_tokens"]}


def hub_files(config: Mapping, source: str) -> list[str]:
    """The files of a hub source that the run's data sets need; none for other sources, which are one file."""
    if config["sources"][source]["kind"] != "hub":
        return []
    users = [config["queries"][name] for name in used_queries(config)]
    users += [config["labelled"][name] for name in used_labelled(config)]
    return sorted({file for user in users if user["source"] == source for file in user.get("files", [])})


def hub_model_files(config: Mapping, model: str) -> list[str]:
    """Patterns of what is fetched of a model on the hub: one kind of weights, for many repositories hold two."""
    declared = config["models"][model]
    weights = "pytorch_model*.bin" if declared.get("pickles") else "*.safetensors"
    return ["*.json", weights, "*.model", "*.jinja", "*.txt", *["*.py"] * declared.get("trust_remote_code", False)]


def allowances(config: Mapping, model: str) -> list[str]:
    """What preparing a model is allowed by its declaration, as options: to read pickles, to run code of its own."""
    declared = config["models"][model]
    names = [name for name in ("pickles", "trust_remote_code") if declared.get(name)]
    return [f"--{name.replace('_', '-')}" for name in names]


def model_files(config: Mapping, model: str) -> list[str]:
    """The files on this machine that a model is declared to consist of; none if it comes from elsewhere."""
    declared = config["models"][model]
    if "source" in declared or not {"path", "gguf"} & set(declared):
        return []
    origin = Path(declared.get("path") or declared["gguf"]).expanduser()
    return sorted(str(file) for file in origin.iterdir() if file.is_file()) if origin.is_dir() else [str(origin)]


def source_file(config: Mapping, source: str) -> list[str]:
    """The file that a path source is; none for a folder or another kind."""
    origin = Path(config["sources"][source].get("path", "")).expanduser()
    return [str(origin)] if config["sources"][source]["kind"] == "path" and origin.is_file() else []


def lesson(config: Mapping, model: str) -> dict:
    """What align_model.py is to teach a model: its declaration without what others read from it."""
    return {key: value for key, value in config["models"][model]["align"].items() if key not in ("base", "seed")}


def exam(config: Mapping) -> dict:
    """The exam as measure_alignment.py takes it."""
    declared = {key: value for key, value in config["alignment"]["exam"].items() if key != "queries"}
    return {**declared, "seed": config["seed"]}


def format_options(config: Mapping, name: str, model: str) -> dict:
    """A prompt format as it is for one model, whose system prompt enters into chat templates."""
    return {
        "name": name,
        "template": config["formats"][name],
        "system_prompt": config["models"][model].get("system_prompt"),
    }


def base_of(config: Mapping, model: str) -> str | None:
    """The model that `model` was aligned from, if the configuration tells."""
    declared = config["models"][model]
    return declared["align"]["base"] if "align" in declared else declared.get("base")


def experiments(config: Mapping, model: str) -> list[str]:
    """The experiments that can be made with `model`."""
    has_base = base_of(config, model) is not None
    declared = {name: how for name, how in config["experiments"].items() if how is not None}
    return [name for name, how in declared.items() if has_base or "transplant" not in how]


def kept_interventions(config: Mapping, experiment: str) -> list[str]:
    """The experiment's interventions but those with an ablation or a random draw that the run lacks; else `none`."""
    run = config["run"]
    lacking = [f"-{name}-" for name in config["ablations"] if name not in run["ablations"]]
    kept = []
    for name in config["experiments"][experiment]["interventions"]:
        drawn = int(name.rpartition("-draw")[2]) if "-draw" in name else 0
        if drawn <= run["random_draws"] and not any(part in name for part in lacking):
            kept.append(name)
    return kept or ["none"]


def pruning_name(method: str, share: float) -> str:
    """What a pruned model is called among the treatments."""
    return f"{method}-{share:g}"


def treatments(config: Mapping) -> dict[str, list[str]]:
    """What is done to a model before its helpfulness is measured, by name: as measure_helpfulness.py takes it."""
    declared = config["helpfulness"]
    ablations = {name: ["--keep", name] for name in declared["interventions"]}
    prunings = {
        pruning_name(method, share): ["--pruning", json.dumps({method: share})]
        for method, share in declared["pruning"].items()
    }
    return ablations | prunings


def task_origin(config: Mapping, task: str, folder: str) -> dict:
    """Where an lm-eval task's documents come from, as prepare_task.py takes it; `folder` holds fetched sources."""
    declared = config["helpfulness"]
    if declared["source"] is None:
        return {}
    return {"source": f"{folder}/{declared['source']}.json", "member": declared["files"][task]}


def task_draw(config: Mapping) -> dict:
    """How many examples of an lm-eval task are evaluated, and how many serve to calibrate pruning."""
    declared = config["helpfulness"]
    calibration = declared["calibration"] if declared["pruning"] else 0
    return {"n": declared["examples"], "calibration": calibration, "seed": config["seed"]}


def format_line(declared: Mapping) -> list[str]:
    """A prompt format as the programs' options."""
    own = dict(declared)
    return command_line({"format": own.pop("name"), **own})


def experiment_format(config: Mapping, experiment: str, model: str) -> dict:
    """The prompt format of an experiment: by default the run's first, with the model's system prompt."""
    how = config["experiments"][experiment]
    own = format_options(config, how.get("format", config["run"]["formats"][0]), model)
    return {**own, "system_prompt": how.get("system_prompt", own["system_prompt"])}


def command_line(options: Mapping) -> list[str]:
    """`{"seed": 0, "dtype": None}` -> `["--seed", "0"]`: options that are None are left out."""
    pairs = [(f"--{key.replace('_', '-')}", str(value)) for key, value in options.items() if value is not None]
    return [word for pair in pairs for word in pair]


def headline(config: Mapping) -> dict:
    """The summary's setting: the first of everything that the run selects."""
    run = config["run"]
    first = {name: run[f"{name}s"][0] for name in ("format", "ablation", "decoding", "judge")}
    return {"dataset": harmful_queries(config)[0], **first}
