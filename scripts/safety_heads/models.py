"""Models: convert, load, describe. A model folder is what transformers saves: config, safetensors, tokenizer.

Code that comes with a model is run only if the file TRUSTED lies beside it, which prepare_model.py puts there for a
model that the configuration trusts.
"""

import hashlib
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from safety_heads.attention import IMPLEMENTATION
from safety_heads.errors import UserError
from safety_heads.shapes import ModelShape

DTYPES = ("float32", "float64", "bfloat16", "float16")
TRUSTED = "trust_remote_code"


def trusts_code(folder: str | Path) -> bool:
    """Whether the code that came with the model in `folder` may be run."""
    return (Path(folder) / TRUSTED).is_file()


def check_folder(folder: str | Path, trusted: bool = False) -> None:
    """Raise UserError unless `folder` holds a causal language model with weights and a tokenizer.

    `trusted`: code in it may be run, though it is not marked yet.
    """
    read_config(folder, trusted)
    load_tokenizer(folder, trusted)
    if not holds_safetensors(folder) and not list(Path(folder).glob("pytorch_model*.bin")):
        raise UserError(f"{folder} holds neither safetensors nor pytorch_model.bin weights; download it again")


def holds_safetensors(folder: str | Path) -> bool:
    """Whether the weights in `folder` are safetensors, which alone can be linked and loaded as they are."""
    return any(Path(folder).glob("*.safetensors"))


def model_files(folder: str | Path, trusted: bool = False) -> list[Path]:
    """The files of a model folder that belong to the model: configuration, weights, tokenizer, templates.

    Code is among them if it is `trusted`.
    """
    suffixes = {".json", ".safetensors", ".jinja", ".model", ".txt", ".tiktoken"} | ({".py"} if trusted else set())
    return sorted(path for path in Path(folder).iterdir() if path.suffix in suffixes and path.name != "model.json")


def read_config(folder: str | Path, trusted: bool = False) -> PretrainedConfig:
    """The configuration in `folder`; `trusted` as for check_folder.

    Raises UserError if it is not the folder of a causal language model, or if that needs code which is not trusted.
    """
    folder, trusted = Path(folder), trusted or trusts_code(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no config.json: give a model folder as transformers saves it")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trusted)
    except (ValueError, OSError) as error:
        if "trust_remote_code" in str(error):
            raise UserError(
                f"{folder} needs code that came with the model; if you trust it, allow it for this model: "
                "trust_remote_code: true"
            ) from error
        raise UserError(f"{folder}/config.json cannot be read: {str(error).splitlines()[0]}") from error
    own = trusted and "AutoModelForCausalLM" in getattr(config, "auto_map", {})
    if not own and type(config) not in AutoModelForCausalLM._model_mapping:
        raise UserError(f"{folder} holds a {config.model_type!r} model, which is no causal language model")
    return config


def describe(folder: str | Path) -> ModelShape:
    """The sizes of the model in `folder`, without loading its weights."""
    config = read_config(folder)
    text = config.get_text_config()
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config, trust_remote_code=trusts_code(folder))
    n_heads = text.num_attention_heads
    return ModelShape(
        n_layers=text.num_hidden_layers,
        n_heads=n_heads,
        n_kv_heads=getattr(text, "num_key_value_heads", None) or n_heads,
        d_head=getattr(text, "head_dim", None) or text.hidden_size // n_heads,
        d_model=text.hidden_size,
        d_vocab=text.vocab_size,
        n_parameters=sum(parameter.numel() for parameter in skeleton.parameters()),
        n_block_weights=_block_weights(skeleton) // text.num_hidden_layers,
    )


def _block_weights(model: PreTrainedModel) -> int:
    """Entries of all matrices outside embeddings and unembedding; experts count in full."""
    outside = (model.get_input_embeddings(), model.get_output_embeddings())
    ends = {id(module.weight) for module in outside}
    return sum(weight.numel() for weight in model.parameters() if weight.ndim > 1 and id(weight) not in ends)


def check_size(shape: ModelShape, name: str, group_size: int, n_shards: int) -> None:
    """Raise UserError if the model is too small for groups of `group_size` heads beside random ones, or for shards."""
    n_heads = shape.n_layers * shape.n_heads
    if 2 * group_size > n_heads:
        raise UserError(
            f"run.group_size {group_size} is too large for {name}: it has {n_heads} heads, and as many random ones "
            f"are to stand beside the group; choose at most {n_heads // 2}"
        )
    if n_shards > shape.n_layers:
        raise UserError(f"{name}.head_shards {n_shards} exceeds its {shape.n_layers} layers; choose at most that many")


def load_tokenizer(folder: str | Path, trusted: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer in `folder`; `trusted` as for check_folder."""
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trusted or trusts_code(folder))
    except (ValueError, OSError) as error:
        raise UserError(f"{folder} has no usable tokenizer: {str(error).splitlines()[0]}") from error


def load(
    folder: str | Path, dtype: str = "float32", device: str = "auto"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model whose heads can be ablated, in evaluation mode, and its tokenizer.

    `device` is `auto` (a GPU if there is one), `spread` (over all devices, by accelerate), or a torch device. Weights
    are read from safetensors only.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r} is unknown; choose one of {', '.join(DTYPES)}")
    read_config(folder)
    tokenizer = load_tokenizer(folder)
    how = {"trust_remote_code": trusts_code(folder)} | ({"device_map": "auto"} if device == "spread" else {})
    if dtype == "float64":
        how["experts_implementation"] = "eager"  # the grouped kernels for mixtures of experts know no float64
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), attn_implementation=IMPLEMENTATION, use_safetensors=True, **how
        )
    except (ValueError, OSError) as error:
        raise UserError(f"the model in {folder} cannot be loaded: {str(error).splitlines()[0]}") from error
    return (model if device == "spread" else model.to(resolve_device(device))).eval(), tokenizer


def resolve_device(device: str) -> torch.device:
    """`auto` -> a GPU if there is one. Raises UserError for a device that this machine lacks."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {device!r} is not available here; use 'auto' or 'cpu'") from error
    return torch.device(device)


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether `device` has instructions for bfloat16, which elsewhere is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def convert_gguf(file: str | Path, folder: str | Path) -> None:
    """Write the model, tokenizer and chat template of a GGUF file to `folder`, dequantised to float32."""
    file = Path(file)
    quantised = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    # transformers refuses to save a model that remembers its quantisation, so the weights move to a fresh one.
    del quantised.config.quantization_config
    model = AutoModelForCausalLM.from_config(quantised.config)
    model.load_state_dict(quantised.state_dict())
    model.generation_config = quantised.generation_config
    save(model, AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name), folder)


def convert_pickles(origin: str | Path, folder: str | Path) -> None:
    """Write a model whose weights are pickles as safetensors to `folder`, in its own dtype.

    transformers reads pickles with torch's weights-only loader, which runs no code of theirs.
    """
    save(AutoModelForCausalLM.from_pretrained(origin, dtype="auto"), load_tokenizer(origin), folder)


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Save to `folder`; a folder of that name appears only when it is complete. Never call it on ablated weights."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        install_folder(Path(partial), folder)


def install_folder(partial: Path, folder: Path) -> None:
    """Move the files of `partial` into `folder`, the configuration last, for it is what marks a model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(partial.iterdir(), key=lambda path: path.name == "config.json"):
        file.replace(folder / file.name)


def weights_checksum(folder: str | Path) -> str:
    """sha256 over the safetensors files in `folder`, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(Path(folder).glob("*.safetensors")):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def manifest(name: str, folder: str | Path, **facts: object) -> str:
    """What later stages need to know of a model, as JSON; its content changes exactly when the model does."""
    shape = asdict(describe(folder))
    return json.dumps({"name": name, **shape, "weights_sha256": weights_checksum(folder), **facts}, indent=2) + "\n"
