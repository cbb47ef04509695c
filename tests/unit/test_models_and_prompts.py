"""Model folders, prompts and refusal openings."""

import json
import shutil

import pandas as pd
import pytest
import torch
from transformers import ViTConfig

import prepare_model
import tiny_models
from safety_heads import models, openings
from safety_heads.errors import UserError
from safety_heads.generation import Response
from safety_heads.prompts import prompt_format


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_models.save("llama-gqa", tmp_path_factory.mktemp("model") / "tiny")


def test_describe_counts_what_loading_finds(folder):
    model, _ = models.load(folder)
    shape = models.describe(folder)
    assert (shape.n_layers, shape.n_heads, shape.n_kv_heads, shape.d_head, shape.d_model) == (3, 4, 2, 8, 32)
    assert shape.n_parameters == sum(parameter.numel() for parameter in model.parameters())


def test_the_manifest_changes_exactly_when_the_weights_do(folder, tmp_path):
    other = tiny_models.save("llama-gqa", tmp_path / "other", seed=1)
    assert models.manifest("m", folder) == models.manifest("m", folder)
    assert models.manifest("m", folder) != models.manifest("m", other)
    assert json.loads(models.manifest("m", folder))["n_heads"] == 4


def test_saved_weights_are_the_models_own_and_dtype_is_the_callers(folder):
    stored = models.load(folder, device="cpu")[0].state_dict()
    built = tiny_models.build("llama-gqa").state_dict()
    assert all(torch.equal(stored[name], built[name]) for name in built)
    assert models.load(folder, "bfloat16")[0].dtype == torch.bfloat16


def test_a_folder_that_is_no_causal_model_is_refused(tmp_path):
    ViTConfig(num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="'vit' model, which is no causal language model"):
        models.read_config(tmp_path)


def test_pickled_weights_are_converted_once(folder, tmp_path):
    pickled, converted = tmp_path / "pickled", tmp_path / "converted"
    pickled.mkdir()
    model, _ = models.load(folder)
    for file in models.model_files(folder):
        if file.suffix != ".safetensors":
            (pickled / file.name).write_bytes(file.read_bytes())
    torch.save(model.state_dict(), pickled / "pytorch_model.bin")
    models.check_folder(pickled)
    assert not models.holds_safetensors(pickled)
    with pytest.raises(UserError, match=r"holds pickles and no safetensors.*pickles: true"):
        prepare_model.place(pickled, tmp_path / "results/models/mine")
    assert not (tmp_path / "results/models/mine").exists()
    models.convert_pickles(pickled, converted)
    again, _ = models.load(converted)
    assert models.holds_safetensors(converted) and not list(converted.glob("*.bin"))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


OWN_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_code_of_a_model_is_run_only_if_its_declaration_says_so(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    origin, place = tmp_path / "origin", tmp_path / "results/models/mine"
    shutil.copytree(folder, origin)
    (origin / "own.py").write_text(OWN_CODE)
    config = json.loads((origin / "config.json").read_text())
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    (origin / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": auto_map}))
    with pytest.raises(UserError, match=r"needs code that came with the model.*trust_remote_code: true"):
        prepare_model.place(origin, place)
    assert not place.exists() and not (tmp_path / "modules").exists()
    prepare_model.place(origin, place, trusted=True)
    model, _ = models.load(place)
    known, _ = models.load(folder)
    tokens = torch.tensor([[3, 5, 7]], device=model.device)
    assert type(model).__name__ == "OwnForCausalLM"
    assert torch.equal(model(tokens).logits, known(tokens).logits)
    assert models.describe(place) == models.describe(folder)


def test_folders_without_config_tokenizer_or_weights_are_refused(folder, tmp_path):
    with pytest.raises(UserError, match=r"holds no config\.json"):
        models.read_config(tmp_path)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(UserError, match="tokenizer"):
        models.check_folder(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(UserError, match="neither safetensors nor pytorch_model"):
        models.check_folder(tmp_path)


@pytest.mark.parametrize(
    ("group_size", "n_shards", "message"),
    [(7, 1, "run.group_size 7 is too large for models.tiny: it has 12 heads"), (1, 4, "models.tiny.head_shards 4")],
)
def test_models_too_small_for_the_run_are_refused(folder, group_size, n_shards, message):
    shape = models.describe(folder)  # 3 layers of 4 heads
    models.check_size(shape, "models.tiny", 6, 3)
    with pytest.raises(UserError, match=message):
        models.check_size(shape, "models.tiny", group_size, n_shards)


def test_unknown_dtypes_and_devices_are_refused(folder):
    with pytest.raises(UserError, match="dtype 'float8' is unknown"):
        models.load(folder, "float8")
    with pytest.raises(UserError, match="device 'cuda:99' is not available"):
        models.load(folder, device="cuda:99")


def test_formats_render_as_in_the_paper():
    tokenizer = tiny_models.tokenizer()
    assert prompt_format("direct").render(tokenizer, "hello") == "hello"
    assert prompt_format("template").render(tokenizer, "hello {x}") == "## Query: hello {x} ## Answer:"
    assert prompt_format("chat").render(tokenizer, "hello") == "user: hello\nA:"
    assert prompt_format("chat", None, "be kind").render(tokenizer, "hello").startswith("system: be kind\nuser:")
    assert prompt_format("mine", "Q: {query}").render(tokenizer, "hello") == "Q: hello"


def test_special_tokens_are_added_once():
    tokenizer = tiny_models.tokenizer()
    assert prompt_format("direct").encode(tokenizer, ["ab"])[0][:1] == [1]
    assert 1 not in prompt_format("chat").encode(tokenizer, ["ab"])[0]


def test_bad_formats_are_refused():
    tokenizer = tiny_models.tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="has none"):
        prompt_format("chat").render(tokenizer, "hello")
    with pytest.raises(UserError, match="'shouted' is unknown"):
        prompt_format("shouted")
    with pytest.raises(UserError, match=r"formats\.mine"):
        prompt_format("mine", "no place for it")


def test_openings_are_the_frequent_first_tokens_of_refusals(monkeypatch):
    answers = [Response("I'm sorry, but no.", 5, "end", 7)] * 30 + [
        Response("I cannot do that at all.", 5, "end", 8)
    ] * 9
    answers += [Response("My apologies, I will not.", 5, "end", 9), Response("x " * 40, 40, "length", 3)]
    monkeypatch.setattr(openings, "generate", lambda *_args, **_kwargs: [answers])
    found = openings.refusal_openings(None, tiny_models.tokenizer(), [[1]] * len(answers), 32)
    assert found[["token_id", "n"]].to_numpy().tolist() == [[7, 30], [8, 9]]


def test_a_model_that_refuses_nothing_has_no_openings(monkeypatch):
    monkeypatch.setattr(openings, "generate", lambda *_args, **_kwargs: [[Response("y " * 40, 40, "length", 3)]])
    found = openings.refusal_openings(None, tiny_models.tokenizer(), [[1]], 32)
    assert isinstance(found, pd.DataFrame) and found.empty
