"""The presets for models on the hub, run on tiny stand-ins: whatever the hub would give comes from files instead."""

import pandas as pd
import yaml
from snakemake.utils import update_config

import tiny_models
from safety_heads import tables
from tests.workflow.conftest import Project, checkout

ARCHITECTURES = {"gemma": "gemma2-caps", "mistral": "mistral-window", "qwen": "qwen2-biases"}  # the others: Llama


def stand_in(project: Project, preset: str, queries: list[str], models: list[str]) -> None:
    """Write the preset, laid over config.yaml, with tiny models and few neutral queries where it names the hub."""
    config = project.config()
    update_config(config, yaml.safe_load((project.folder / f"config/{preset}.yaml").read_text()))
    for name, declared in config["models"].items():
        if "hub" in declared:
            kind = next((kind for word, kind in ARCHITECTURES.items() if word in name), "llama-mha")
            tiny_models.save(kind, project.folder / "own" / name, seed=len(name))
            local = {"path": f"own/{name}", "dtype": declared["dtype"]}
            config["models"][name] = local | {key: declared[key] for key in ("base",) if key in declared}
    for name in queries:
        declared = config["queries"][name]
        file = project.folder / "own" / declared["source"] / declared["files"][0]
        file.parent.mkdir(parents=True, exist_ok=True)
        kind = "harmful" if declared["harmful"] else "benign"
        frame = pd.DataFrame({declared["column"]: [f"{kind} query {i} of {name}" for i in range(declared["rows"])]})
        frame[declared.get("category", "category")] = "none"
        frame.to_parquet(file) if file.suffix == ".parquet" else frame.to_csv(file, index=False)
        config["sources"][declared["source"]] = {"kind": "path", "path": f"own/{declared['source']}"}
    for decoding in config["decodings"].values():
        decoding["max_new_tokens"] = 5
    config["run"] |= {
        "formats": config["run"]["formats"][:1],
        "queries": queries,
        "models": models,
        "score_queries": 4,
        "generate_queries": 5,
        "group_size": 2,  # of twelve heads, some of which must be left to draw at random
    }
    project.write_config(config)


def test_the_paper_preset_runs_with_every_target_that_needs_no_hub(tmp_path):
    """One aligned model stands for two built alike, one format for two; helpfulness reads its tasks on the hub."""
    project = checkout(tmp_path)
    stand_in(project, "paper", ["jailbreakbench", "jailbreakbench-benign"], ["llama-2-7b-chat"])
    run = project.snakemake("all", "experiments", "asr_map", "attention_maps", timeout=3600)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-6000:]
    results = project.folder / "results"
    rates = tables.read_table(tables.ASR, results / "tables/llama-2-7b-chat/asr.parquet")
    assert set(rates["format"]) == {"template"} and rates["size"].max() == 2
    tried = tables.read_table(tables.ASR, results / "tables/llama-2-7b-chat/experiments.parquet")
    wanted = {"base-attention+none", "base-urial+none", "system-prompt+ships-ua-1", "sure+ships-sc-1"}
    assert wanted <= set(tried["intervention"])
    card = pd.read_csv(results / "scorecard.csv")
    mine = card["dataset"].isin(["jailbreakbench", "mean"]) & (card["format"] == "template")
    reachable = mine & ~card["intervention"].str.contains(r"-[345]$|^sure")  # groups of two; sure is an experiment
    answered = card[(card["model"] == "llama-2-7b-chat") & reachable]
    assert len(answered) == 12 and answered["ours"].notna().all()


def test_the_modern_preset_runs_on_each_of_its_architectures(tmp_path):
    project = checkout(tmp_path)
    names = ["llama-3.1-8b-instruct", "qwen2.5-7b-instruct", "gemma-2-9b-it", "mistral-7b-instruct-v0.3"]
    stand_in(project, "modern", ["jailbreakbench"], names)
    run = project.snakemake("asr")
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-6000:]
    for name in names:
        assert len(tables.read_table(tables.ASR, project.folder / f"results/tables/{name}/asr.parquet"))
