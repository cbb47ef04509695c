"""What is asked of a scheduler, and the sizes of models that it is predicted from."""

import json
from dataclasses import asdict

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, LlamaConfig

import tiny_models
from safety_heads import models, plan, resources, scoring, shapes
from safety_heads.errors import UserError
from tests.workflow.conftest import ROOT

CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
SETTING = {"model": "aligned-a", "dataset": "advbench", "format": "chat", "shard": "1"}


def llama(tmp_path, **changes):
    """The project's config with one model of 7 billion parameters, of which only the config.json is there."""
    (tmp_path / "config.json").write_text(
        LlamaConfig(
            hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32
        ).to_json_string()
    )
    return {**CONFIG, "models": {"aligned-a": {"path": str(tmp_path), "dtype": "bfloat16", **changes}}}


@pytest.mark.parametrize("name", shapes.known_shapes())
def test_known_shapes_are_those_of_such_a_model(name):
    """A skeleton of the sizes in the table has its number of parameters, but for biases and extra norms."""
    known = shapes.known_shapes()[name]
    row = next(line for line in shapes.KNOWN.read_text().splitlines() if line.startswith(name + ","))
    d_ffn, tied = int(row.split(",")[6]), row.split(",")[8] == "true"
    config = LlamaConfig(
        hidden_size=known.d_model,
        intermediate_size=d_ffn,
        num_hidden_layers=known.n_layers,
        num_attention_heads=known.n_heads,
        num_key_value_heads=known.n_kv_heads,
        head_dim=known.d_head,
        vocab_size=known.d_vocab,
        tie_word_embeddings=tied,
    )
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config)
    counted = sum(parameter.numel() for parameter in skeleton.parameters())
    assert counted == pytest.approx(known.n_parameters, rel=2e-4)
    assert models._block_weights(skeleton) // known.n_layers == known.n_block_weights


@pytest.mark.parametrize("kind", ["llama-mha", "llama-gqa", "gemma2-caps", "mixtral-experts", "qwen3-moe"])
def test_a_config_json_tells_nearly_what_the_skeleton_does(kind, tmp_path):
    tiny_models.CONFIGS[kind]().save_pretrained(tmp_path)
    told, exact = shapes.from_config_json(tmp_path / "config.json"), models.describe(tmp_path)
    assert [told.n_layers, told.n_heads, told.n_kv_heads] == [exact.n_layers, exact.n_heads, exact.n_kv_heads]
    assert told.n_parameters == pytest.approx(exact.n_parameters, rel=0.25)


def test_sizes_come_from_what_is_known_best(tmp_path):
    config = {"models": {"hub": {"hub": "lmsys/vicuna-7b-v1.5"}, "new": {"hub": "someone/new"}}}
    assert shapes.shape_of(config, "hub", tmp_path)[1] == "table"
    assert shapes.shape_of(CONFIG, "aligned-a", tmp_path)[0].n_layers == 30  # its base's, a GGUF file
    assert shapes.shape_of(config, "new", tmp_path) == (shapes.known_shapes()[shapes.ASSUMED], "assumed")
    prepared = tmp_path / "models/new/model.json"
    prepared.parent.mkdir(parents=True)
    prepared.write_text(json.dumps({"name": "new", **asdict(shapes.known_shapes()["lmsys/vicuna-7b-v1.5"])}))
    assert shapes.shape_of(config, "new", tmp_path)[1] == "prepared"
    with pytest.raises(UserError, match="tells no sizes"):
        shapes.from_config_json(prepared)


def test_needs_grow_with_model_dtype_queries_and_attempt(tmp_path):
    small = resources.need(CONFIG, tmp_path, "score_ships", SETTING)
    large = resources.need(llama(tmp_path), tmp_path, "score_ships", SETTING)
    wide = resources.need(llama(tmp_path, dtype="float32"), tmp_path, "score_ships", SETTING)
    assert small.memory_mib < large.memory_mib < wide.memory_mib and small.tera_sweep < large.tera_sweep
    assert large.seconds(on_gpu=True) < wide.seconds(on_gpu=True) < wide.seconds(on_gpu=False, threads=8)
    more = {**CONFIG, "run": {**CONFIG["run"], "score_queries": 24}}
    ratio = resources.need(more, tmp_path, "score_ships", SETTING).tera_sweep / small.tera_sweep
    assert 3 < ratio < 4.2  # four times the queries, less the prefix that they share
    asked = [resources.memory_mb(small, attempt) for attempt in (1, 2, 3)]
    assert asked == [asked[0], 2 * asked[0], 4 * asked[0]] and asked[0] * 1e6 > small.memory_mib * 2**20
    times = [resources.minutes(small, False, 1, attempt) for attempt in (1, 2, 3)]
    assert times == [times[0], 2 * times[0], 4 * times[0]]


def test_shards_divide_the_work(tmp_path):
    whole, parts = (resources.need(llama(tmp_path, head_shards=n), tmp_path, "score_ships", SETTING) for n in (1, 8))
    assert parts.tera_sweep == pytest.approx(whole.tera_sweep / 8)
    shape = shapes.from_config_json(tmp_path / "config.json")
    n_heads = [len(scoring.shard_of(shape, shard, 8)) for shard in range(1, 9)]
    assert sum(n_heads) == 1024 and n_heads == sorted(n_heads)  # heads of low layers cost more


def test_every_job_with_a_model_has_a_formula():
    """A rule that loads a model or leaves one on the disk must not be planned as a light one."""
    rules = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    asking = [
        part.split(":")[0] for part in rules.split("\nrule ")[1:] if "mem_mb=memory" in part.split("\nuse rule")[0]
    ]
    assert set(asking) <= set(resources.FORMULAS) and len(asking) >= 8


def test_large_models_need_more_than_one_gpu(tmp_path):
    config = {**CONFIG, "models": {"aligned-a": {"hub": "meta-llama/Llama-3.1-70B-Instruct", "dtype": "bfloat16"}}}
    assert resources.need(config, tmp_path, "score_ships", SETTING).n_gpus == 2
    assert resources.need(llama(tmp_path), tmp_path, "score_ships", SETTING).n_gpus == 1
    gpus = {
        judge: resources.need(CONFIG, tmp_path, "judge_responses", {"judge": judge, "model": "aligned-a"}).n_gpus
        for judge in ("keyword-paper", "fitted", "smollm2-jbb")
    }
    assert gpus == {"keyword-paper": 0, "fitted": 0, "smollm2-jbb": 1}


DRY = """\
[Wed Nov 25 12:43:39 2026]
rule score_ships:
    input: a, b
    output: c.parquet, d.parquet
    wildcards: model=aligned-a, dataset=advbench, format=chat, shard=1
    threads: 4
    resources: tmpdir=/tmp, mem_mb=3000, mem=3 GB, runtime=15
localrule all:
    input: c
"""


def test_a_dry_runs_text_is_read(tmp_path):
    [job] = plan.parse(DRY.splitlines())  # the target has no output and runs nothing
    assert (job.rule, job.threads, job.n_files, job.wildcards) == ("score_ships", 4, 2, SETTING)
    table = plan.plan_table([job, job], CONFIG, str(tmp_path)).set_index("rule")
    assert table.loc["all rules", ["jobs", "mem_mb", "minutes", "files"]].tolist() == [2, 3000, 15, 8]
    need = resources.need(CONFIG, str(tmp_path), "score_ships", SETTING)
    assert table.loc["score_ships", "gpu_hours"] == pytest.approx(2 * need.seconds(True) / 3600)
    assert "| score_ships | 2 | 3000 | 15 | 1 |" in plan.plan_text(table.reset_index())
