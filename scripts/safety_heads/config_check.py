"""What the schema cannot say of the configuration: names must exist, numbers must fit, files must be there.

Called while the Snakefile is read, so nothing heavy is imported. Every error names the key and the remedy.
"""

import difflib
import json
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from safety_heads.errors import UserError
from safety_heads.judges.keyword import JUDGES
from safety_heads.judges.presets import PRESETS
from safety_heads.selection import aligned_models, harmful_queries, used_models, used_queries, used_sources

LEAST_FREE_GIB = 1


def check(config: Mapping) -> None:
    """Raise UserError for the first thing that would make the run fail later."""
    run = config["run"]
    for kind in ("models", "queries", "formats", "ablations", "decodings", "judges", "labelled"):
        _known(f"run.{kind}", run[kind], config[kind])
    _check_judges(config)
    _check_numbers(config)
    for model in run["models"]:
        _check_model(config, model)
        _check_screen(config, model)
    for base in set(used_models(config)) - set(run["models"]):
        _check_model(config, base)
    if aligned_models(config):
        _check_exam(config)
    for name, declared in config["models"].items():
        _known(f"models.{name}.base", [declared["base"]] if "base" in declared else [], config["models"])
    for name, how in config["experiments"].items():
        _known(f"experiments.{name}.format", [how["format"]] if how and "format" in how else [], config["formats"])
    labels = config["annotation"]["labels"]
    if labels and not Path(labels).is_file():
        raise UserError(f"annotation.labels: {labels} does not exist; put the exported CSV there, or write null")
    _check_helpfulness(config["helpfulness"], config["sources"])
    for dataset in used_queries(config):
        source = config["queries"][dataset]["source"]
        _known(f"queries.{dataset}.source", [source], config["sources"])
    for source in used_sources(config):
        declared = config["sources"][source]
        if declared["kind"] == "path" and not Path(declared["path"]).expanduser().exists():
            raise UserError(
                f"sources.{source}.path: {declared['path']} does not exist; put it there or change the path"
            )


def _check_judges(config: Mapping) -> None:
    """What every declared judge and labelled set names must exist."""
    for name, declared in config["judges"].items():
        key = f"judges.{name}"
        if declared["kind"] == "keyword" and "source" not in declared:
            _known(f"{key}.list", [declared["list"]], ("paper", "published"))
        _known(f"{key}.preset", [declared["preset"]] if "preset" in declared else [], PRESETS)
        references = {"source": "sources", "labelled": "labelled"}
        references |= {"model": "models"} if declared["kind"] == "llm-local" else {}
        for field, registry in references.items():
            _known(f"{key}.{field}", [declared[field]] if field in declared else [], config[registry])
        url, given = str(declared.get("url", "")), str(declared.get("key_env", ""))
        if "@" in url or given.startswith(("sk-", "hf_")):
            raise UserError(f"{key} holds a key; name the environment variable that holds it in {key}.key_env")
    for name, declared in config["labelled"].items():
        _known(f"labelled.{name}.source", [declared["source"]], config["sources"])


def check_folder(folder: str | Path) -> None:
    """Raise UserError unless files can be written in `folder` and the disk has room."""
    folder = Path(folder)
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
        free = shutil.disk_usage(folder).free / 2**30
    except OSError as error:
        raise UserError(f"the results folder {folder} cannot be written ({error.strerror}); mend that first") from error
    if free < LEAST_FREE_GIB:
        raise UserError(f"the disk of {folder} has {free:.2f} GiB free, {LEAST_FREE_GIB} are needed; make room")


def _known(key: str, names: Iterable[str], registry: Collection[str]) -> None:
    for name in names:
        if name not in registry:
            near = difflib.get_close_matches(name, registry, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(registry)}"
            raise UserError(f"{key}: {name!r} is not declared in the config; {hint}")


def _check_numbers(config: Mapping) -> None:
    run = config["run"]
    if not harmful_queries(config):
        raise UserError("run.queries holds no harmful data set; add one, for instance advbench")
    if run["generate_queries"] is not None and run["score_queries"] > run["generate_queries"]:
        raise UserError("run.score_queries is larger than run.generate_queries; answers cover the scored queries")
    if run["rank"] > run["score_queries"]:
        raise UserError(f"run.rank {run['rank']} needs at least as many run.score_queries ({run['score_queries']})")
    if run["candidates"] is not None and run["candidates"] < run["group_size"]:
        raise UserError(f"run.candidates {run['candidates']} is less than run.group_size {run['group_size']}")
    if run["side"] == "all" and aligned_models(config):
        raise UserError("run.side: 'all' would test aligned models on queries that taught them; use 'eval'")


def _check_helpfulness(declared: Mapping, registry: Mapping) -> None:
    if declared["source"] is None:
        return
    _known("helpfulness.source", [declared["source"]], registry)
    if missing := [task for task in declared["tasks"] if task not in declared["files"]]:
        raise UserError(f"helpfulness.files.{missing[0]} is missing; name its Arrow file in {declared['source']}")


def _check_screen(config: Mapping, name: str) -> None:
    """A job's best tenth would depend on which heads it was dealt, and the number of jobs must not change a score."""
    declared = config["models"][name]
    full = declared.get("dtype", "float32") in ("float32", "float64")
    if full and declared.get("head_shards", 1) > 1 and config["run"]["screen"] != "none":
        raise UserError(f"run.screen: {name} is dealt to several jobs (head_shards); choose 'none'")


def _check_model(config: Mapping, name: str) -> None:
    declared = config["models"][name]
    if "gguf" in declared and "source" in declared:
        _known(f"models.{name}.source", [declared["source"]], config["sources"])
    elif "source" in declared:
        raise UserError(f"models.{name}.source goes with gguf, a file of that source; add it or remove source")
    elif "gguf" in declared and not Path(declared["gguf"]).expanduser().is_file():
        raise UserError(f"models.{name}.gguf: {declared['gguf']} does not exist; put it there or change the path")
    if "path" in declared:
        _check_model_folder(f"models.{name}.path", Path(declared["path"]).expanduser())
    if "align" in declared:
        _check_lesson(config, name)


def _check_model_folder(key: str, folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"{key}: {folder} is no folder; put the model there or change the path")
    try:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{key}: {folder} holds no readable config.json; give a folder as transformers saves it"
        ) from error
    kinds = described.get("architectures") or []
    if kinds and not any(kind.endswith(("ForCausalLM", "LMHeadModel")) for kind in kinds):
        raise UserError(f"{key}: {folder} holds a {kinds[0]}, which is no causal language model; choose another")


def _check_lesson(config: Mapping, name: str) -> None:
    lesson, key = config["models"][name]["align"], f"models.{name}.align"
    _known(f"{key}.base", [lesson["base"]], config["models"])
    _known(f"{key}.skip", lesson.get("skip", {}), lesson["harmful"])
    if "align" in config["models"][lesson["base"]]:
        raise UserError(f"{key}.base: {lesson['base']} is itself aligned; start from a model that is not")
    for side, harmful in (("harmful", True), ("benign", False)):
        _known(f"{key}.{side}", lesson[side], config["queries"])
        for dataset in lesson[side]:
            if config["queries"][dataset]["harmful"] is not harmful:
                raise UserError(f"{key}.{side}: {dataset} is not {side}; move it to the other list")


def _check_exam(config: Mapping) -> None:
    exam = config["alignment"]["exam"]
    for key in ("queries", "watched"):
        _known(f"alignment.exam.{key}", exam[key], config["queries"])
    _known("alignment.exam.judge", [exam["judge"]], JUDGES)
