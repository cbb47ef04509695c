"""Random models of a few kilobytes, one per kind of attention, and a tokenizer with a chat template."""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from safety_heads import models

LETTERS = " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;?!#'-\n"
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
N_VOCAB = len(LETTERS) + len(SPECIAL)
_SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "vocab_size": N_VOCAB}
_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
CONFIGS = {
    "llama-mha": lambda: LlamaConfig(num_attention_heads=4, num_key_value_heads=4, **_SIZES, **_IDS),
    "llama-gqa": lambda: LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **_SIZES, **_IDS),
    "qwen3-qk-norm": lambda: Qwen3Config(num_attention_heads=4, num_key_value_heads=2, head_dim=16, **_SIZES, **_IDS),
    "phi3-fused": lambda: Phi3Config(num_attention_heads=4, num_key_value_heads=2, **_SIZES, **_IDS),
    "mistral-window": lambda: MistralConfig(
        num_attention_heads=4, num_key_value_heads=2, sliding_window=6, **_SIZES, **_IDS
    ),
    "gemma3-mixed": lambda: Gemma3TextConfig(
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, sliding_window=6, **_SIZES, **_IDS
    ),
    "gpt2": lambda: GPT2Config(n_embd=32, n_layer=3, n_head=4, vocab_size=N_VOCAB, bos_token_id=1, eos_token_id=2),
}
MODERN = [kind for kind in CONFIGS if kind != "gpt2"]


def build(kind: str, seed: int = 0):
    """A random model whose weights are large enough for every head to matter, without its folder."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGS[kind](), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6.0)
    return model.eval()


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per letter; direct prompts begin with <s>."""
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *LETTERS])}
    letters = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    letters.pre_tokenizer = Split("", "isolated")
    letters.decoder = Fuse()
    letters.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=letters, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )
    fast.chat_template = CHAT
    return fast


def save(kind: str, folder: Path, seed: int = 0) -> Path:
    """A model folder as transformers saves it."""
    models.save(build(kind, seed), tokenizer(), folder)
    return folder


def prompts(lengths=(5, 7, 9), prefix=(), seed: int = 0) -> list[list[int]]:
    """Random token ids, after a shared prefix."""
    generator = torch.Generator().manual_seed(seed)
    return [[*prefix, *torch.randint(4, N_VOCAB, (n,), generator=generator).tolist()] for n in lengths]
