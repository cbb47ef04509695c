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
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from safety_heads import models

LETTERS = " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;?!#'-\n"
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
N_VOCAB = len(LETTERS) + len(SPECIAL)
_SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "vocab_size": N_VOCAB}
_ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention"]
_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_GQA = {"num_attention_heads": 4, "num_key_value_heads": 2, **_SIZES, **_IDS}
_WINDOW = {"sliding_window": 6, "head_dim": 8, **_GQA}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
CONFIGS = {
    "llama-mha": lambda: LlamaConfig(num_attention_heads=4, num_key_value_heads=4, **_SIZES, **_IDS),
    "llama-gqa": lambda: LlamaConfig(**_GQA),
    "mistral-window": lambda: MistralConfig(**_WINDOW),
    "qwen2-biases": lambda: Qwen2Config(**_GQA),
    "qwen3-qk-norm": lambda: Qwen3Config(**{**_GQA, "head_dim": 16}),
    "gemma2-caps": lambda: Gemma2Config(
        query_pre_attn_scalar=8, attn_logit_softcapping=2.0, final_logit_softcapping=5.0, **_WINDOW
    ),
    "gemma3-mixed": lambda: Gemma3TextConfig(layer_types=_ALTERNATING, **_WINDOW),
    "phi3-fused": lambda: Phi3Config(**_GQA),
    "olmo2-post-norm": lambda: Olmo2Config(**_GQA),
    "granite-multipliers": lambda: GraniteConfig(
        embedding_multiplier=2.0, residual_multiplier=0.5, attention_multiplier=0.3, logits_scaling=3.0, **_GQA
    ),
    "neox-parallel": lambda: GPTNeoXConfig(num_attention_heads=4, use_parallel_residual=True, **_SIZES, **_IDS),
    "mixtral-experts": lambda: MixtralConfig(sliding_window=None, **_EXPERTS, **_GQA),
    "qwen3-moe": lambda: Qwen3MoeConfig(
        head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24, **_GQA
    ),
    "gpt-oss-sinks": lambda: GptOssConfig(layer_types=_ALTERNATING, **_EXPERTS, **_WINDOW),
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
