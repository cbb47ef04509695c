"""Time the Ships sweep of a model of random weights that has a real model's shape, and hold it against plain passes.

No weights are downloaded, and the queries are random tokens, of which the first five are shared. The sweep is the one
of score_ships.py, with UA. Some heads are scored by a plain pass per head too, all queries in batches. What the device
can do at best is measured by a large square product in the same dtype. Prints a table and writes it as CSV.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from safety_heads import flops, models, scoring  # noqa: E402
from safety_heads.attention import IMPLEMENTATION  # noqa: E402
from safety_heads.heads import Ablation, Head  # noqa: E402
from safety_heads.ranking import PLACE  # noqa: E402
from safety_heads.shapes import ModelShape, known_shapes  # noqa: E402

SHAPES = {
    "llama-2-7b": "meta-llama/Llama-2-7b-hf",
    "llama-3.1-8b": "meta-llama/Llama-3.1-8B-Instruct",
    "smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct",
}
UA = Ablation("ua", 1e-5)
SHARED, SHORTEST, LONGEST = 5, 25, 35  # tokens


def main() -> None:
    args = parser().parse_args()
    device, shape = models.resolve_device(args.device), known_shapes()[SHAPES[args.shape]]
    model = random_model(shape, getattr(torch, args.dtype), device)
    layers = args.layers or list(range(shape.n_layers))
    sampled = {layers[i] for i in np.linspace(0, len(layers) - 1, args.check).round().astype(int)}
    row = {"shape": args.shape, "dtype": args.dtype, "device": name_of(device)}
    row |= compare(model, shape, random_prompts(shape.d_vocab, args.n), layers, sampled)
    best = product_rate(model.dtype, device)
    row |= {"product_tflop_per_s": best / 1e12, "share_of_product_rate": row["tflop_per_s"] * 1e12 / best}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([row]).to_csv(args.output, index=False)
    shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in row.items()}
    print(pd.Series(shown, name="value").to_markdown())


def compare(
    model: PreTrainedModel, shape: ModelShape, prompts: list[list[int]], layers: Sequence[int], sampled: set[int]
) -> dict:
    """What the sweep of `layers` takes, and how plain passes for the first and last head of `sampled` layers do."""
    heads = [Head(layer, head) for layer in layers for head in range(shape.n_heads)]
    some = [head for head in heads if head.layer in sampled and head.head in (0, shape.n_heads - 1)]
    ids, lengths = [str(number) for number in range(len(prompts))], [len(prompt) for prompt in prompts]
    swept = scoring.Scorer(model, prompts)
    if not swept.check.sweep_is_exact:
        sys.exit("the sweep failed its check against plain passes")
    plain = scoring.Scorer(model, prompts, check=replace(swept.check, sweep_is_exact=False))
    (ships, _), seconds, cpu_seconds = timed(lambda: scoring.score_heads(swept, heads, UA, ids), model.device)
    peak = peak_gib(model.device)
    (checked, _), plain_seconds, _ = timed(lambda: scoring.score_heads(plain, some, UA, ids), model.device)
    both = checked.merge(ships, on=[*PLACE, "query_id"], validate="one_to_one", suffixes=("_plain", ""))
    operations = flops.sweep_flops(shape, lengths, SHARED, heads)
    return {
        "heads": len(heads),
        "queries": len(prompts),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_gib": peak,
        "pflop": operations / 1e15,
        "tflop_per_s": operations / seconds / 1e12,
        "sweep_ms_per_head": 1000 * seconds / len(heads),
        "plain_ms_per_head": 1000 * plain_seconds / len(some),
        "plain_to_sweep": plain_seconds / len(some) * len(heads) / seconds,
        "plain_to_sweep_pflop": sum(flops.forward_flops(shape, n) for n in lengths) * len(heads) / operations,
        "checked_heads": len(some),
        "max_abs_diff_nats": (both["kl_nats_plain"] - both["kl_nats"]).abs().max(),
        "max_score_nats": ships["kl_nats"].max(),
    }


def random_model(shape: ModelShape, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """A Llama of that shape, made where it will run."""
    ends = shape.n_parameters - shape.n_layers * shape.n_block_weights
    config = LlamaConfig(
        num_hidden_layers=shape.n_layers,
        num_attention_heads=shape.n_heads,
        num_key_value_heads=shape.n_kv_heads,
        head_dim=shape.d_head,
        hidden_size=shape.d_model,
        intermediate_size=flops.mlp_flops(shape) // (6 * shape.d_model),
        vocab_size=shape.d_vocab,
        tie_word_embeddings=ends < 2 * shape.d_model * shape.d_vocab,
        initializer_range=shape.d_model**-0.5,
    )
    torch.manual_seed(0)
    with device, torch.no_grad():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=IMPLEMENTATION).eval()
        model.get_output_embeddings().weight.mul_(3)  # some words are to be likelier than others
    return model


def random_prompts(d_vocab: int, n: int) -> list[list[int]]:
    """Token ids, the first ones the same in all prompts."""
    generator = np.random.default_rng(0)
    shared = generator.integers(d_vocab, size=SHARED).tolist()
    lengths = generator.integers(SHORTEST, LONGEST + 1, size=n)
    return [[*shared, *generator.integers(d_vocab, size=length - SHARED).tolist()] for length in lengths]


def product_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Operations per second of a large square product."""
    size, times = (8192, 50) if device.type == "cuda" else (2048, 3)
    one, other = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    product = one @ other  # the first one loads what the others need
    _, seconds, _ = timed(lambda: [torch.mm(one, other, out=product) for _ in range(times)], device)
    return times * 2 * size**3 / seconds


def timed(work: Callable[[], object], device: torch.device) -> tuple:
    """What `work` gives, and the seconds and CPU seconds that it took."""
    start, cpu_start = wait(device), time.process_time()
    result = work()
    return result, wait(device) - start, time.process_time() - cpu_start


def wait(device: torch.device) -> float:
    """The time when the device has done all it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_gib(device: torch.device) -> float:
    """The most memory that this program has had, on the device, in GiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    program.add_argument("--shape", default="llama-2-7b", choices=SHAPES)
    program.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    program.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu or cuda")
    program.add_argument("--n", type=int, default=100, help="queries (default 100)")
    program.add_argument("--layers", type=int, nargs="+", help="whose heads are scored (default: all)")
    program.add_argument("--check", type=int, default=3, help="layers whose first and last head get plain passes")
    program.add_argument("--output", type=Path, default=ROOT / "results/benchmarks/shape.csv")
    return program


if __name__ == "__main__":
    main()
