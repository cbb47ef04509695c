"""Time an exact Ships sweep by this project and by its peers: same model, queries, ablation and threads, in one run.

Prints a table and writes it as CSV. CPU seconds are those of a sweep over all heads, without loading. Every peer pays
one pass per head, so peers are by default measured on the heads of every tenth layer, from the fifth on, and their
seconds are scaled to all heads. Waiting threads sleep, so that CPU seconds are work. Peers get environments of their
own, made on the first run. The paper's code has no licence and is not shipped: --official names a checkout.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from safety_heads import flops, models, options, queries  # noqa: E402
from safety_heads.heads import Head  # noqa: E402
from safety_heads.prompts import shared_prefix_length  # noqa: E402

EPSILON = 1e-5
MODERN = ("torch==2.13.0", "transformers==5.23.0", "transformer-lens==4.3.0", "nnsight==0.8.1", "pyvene==0.1.8")
OFFICIAL = (
    "torch==2.13.0",
    "transformers==4.44.2",
    "accelerate==0.34.2",
    "datasets==3.0.0",
    "pandas==2.2.3",
    "fschat==0.2.36",
)
COLUMNS = [
    "tool",
    "model",
    "format",
    "cpu_seconds",
    "peak_mb",
    "max_abs_diff",
    "top10_overlap",
    "ratio_to_ours",
    "share_of_limit",
]


@dataclass(frozen=True)
class Tool:
    """A program under peers/, the environment it needs, and what it is told."""

    script: str
    environment: tuple[str, ...] = ()  # requirements; none = this project's own
    options: tuple[tuple[str, object], ...] = ()


TOOLS = {
    "this project": Tool("ours", options=(("screen", False),)),
    "this project, bfloat16 screen": Tool("ours", options=(("screen", True),)),
    "HF hooks, batched": Tool("hooks", options=(("batch", None),)),
    "HF hooks, batch 1": Tool("hooks", options=(("batch", 1),)),
    "TransformerLens": Tool("transformer_lens", MODERN, (("start_at_layer", False),)),
    "TransformerLens, start_at_layer": Tool("transformer_lens", MODERN, (("start_at_layer", True),)),
    "nnsight": Tool("nnsight", MODERN),
    "pyvene": Tool("pyvene", MODERN),
    "official code": Tool("official", OFFICIAL),
}


def main() -> None:
    args = parser().parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, folder, form, prompts in settings(args):
        shape = models.describe(folder)
        every = [(layer, head) for layer in range(shape.n_layers) for head in range(shape.n_heads)]
        some = [place for place in every if place[0] % args.every == args.every // 2]
        least = flops.sweep_flops(
            shape, [len(p) for p in prompts], shared_prefix_length(prompts), [Head(*place) for place in every]
        )
        found = {}
        for tool in [tool for tool in TOOLS if tool in args.tools]:
            if tool == "official code" and not args.official:
                print("official code: skipped, --official names no checkout", flush=True)
                continue
            heads = every if TOOLS[tool].script == "ours" else some
            job = {"model": str(folder), "prompts": prompts, "heads": heads, "epsilon": EPSILON}
            rate = matmul_rate(args.threads)  # and again afterwards, for a processor's clock changes within minutes
            result = run(TOOLS[tool], {**job, "threads": args.threads}, args)
            rate = max(rate, matmul_rate(args.threads))
            print(f"matrix products: {rate / 1e9:.0f} GFLOP per CPU second in float32, {args.threads} threads")
            scores = dict(zip(heads, result["scores"], strict=True))
            found[tool] = {**result, "scores": [scores[place] for place in some]}
            found[tool]["cpu_seconds"] *= len(every) / len(heads)
            rows.append({"tool": tool, "model": name, "format": form, **compared(found, tool, least / rate)})
            frame = pd.DataFrame(rows)[COLUMNS]
            frame.to_csv(args.output, index=False)
            print(frame[-1:].to_string(index=False, header=len(rows) == 1), flush=True)
    print(frame.round(3).to_markdown(index=False))


def settings(args: argparse.Namespace):
    """Yield (name, folder, format, prompts): the given model in each format, and a small random one without groups."""
    _, tokenizer = models.load(args.model)
    texts = queries.draw(queries.read_query_file(args.queries), "eval", args.n)["text"]
    for form in args.formats:
        prompts = options.named_format({"name": form}).encode(tokenizer, texts)
        yield args.model.name, args.model, form, prompts
    folder = args.output.parent / "tiny-Llama-mha"
    torch.manual_seed(0)
    sizes = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 12}
    tiny = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=tokenizer.vocab_size, initializer_range=0.06))
    models.save(tiny, tokenizer, folder)
    yield folder.name, folder, "template", options.named_format({"name": "template"}).encode(tokenizer, texts)


def matmul_rate(threads: int, seconds: float = 2.0) -> float:
    """Operations per CPU second of float32 products of the sizes that a small model's MLP has; the best of many."""
    torch.set_num_threads(threads)
    left, right = torch.randn(2048, 576), torch.randn(1536, 576)
    best, begun = 0.0, time.monotonic()
    while time.monotonic() - begun < seconds:
        start = time.process_time()
        for _ in range(20):
            torch.nn.functional.linear(left, right)
        best = max(best, 20 * 2 * 2048 * 576 * 1536 / (time.process_time() - start))
    return best


def run(tool: Tool, job: dict, args: argparse.Namespace) -> dict:
    """One tool's scores `[heads, prompts]`, CPU seconds and peak memory."""
    work = args.output.parent / "work"
    work.mkdir(exist_ok=True)
    if tool.script == "official":
        job = {**job, "model": str(official_copy(Path(job["model"]), work)), "code": str(args.official)}
    (work / "job.json").write_text(json.dumps({**job, **dict(tool.options)}), encoding="utf-8")
    (work / "result.json").unlink(missing_ok=True)
    python = interpreter(tool.environment, args.environments or args.output.parent / "environments")
    command = [python, ROOT / "benchmarks/peers" / f"run_{tool.script}.py", work / "job.json", work / "result.json"]
    places = os.pathsep.join([str(ROOT / "scripts"), str(ROOT / "benchmarks/peers")])
    environment = {**os.environ, "PYTHONPATH": places, "HF_HUB_OFFLINE": "1"}
    environment |= {"OMP_NUM_THREADS": str(args.threads), "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{tool.script} failed:\n{done.stderr[-2000:]}")
    return json.loads((work / "result.json").read_text(encoding="utf-8"))


def interpreter(requirements: tuple[str, ...], folder: Path) -> str:
    """The Python of an environment with `requirements`, made if it is not there."""
    if not requirements:
        return sys.executable
    home = folder / ("modern" if requirements == MODERN else "official")
    if not (home / "ready").is_file():
        print(f"making {home} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([home / "bin/pip", "install", "--quiet", "--use-pep517", *requirements], check=True)
        (home / "ready").touch()
    return str(home / "bin/python")


def official_copy(folder: Path, work: Path) -> Path:
    """The model as transformers 4.44 reads it, in a folder whose name contains Llama, as the paper's code asks."""
    copy = work / f"Llama-{folder.name}"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    (copy / "model.safetensors").symlink_to((folder / "model.safetensors").resolve())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["torch_dtype"] = "float32"
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return copy


def compared(found: dict[str, dict], tool: str, limit_seconds: float) -> dict:
    """The numbers of one row; this project's exact sweep, which runs first, is the reference."""
    ours, other = found["this project"], found[tool]
    one, two = np.array(ours["scores"]), np.array(other["scores"])
    top = [set(np.argsort(-scores.mean(1))[:10].tolist()) for scores in (one, two)]
    return {
        "cpu_seconds": other["cpu_seconds"],
        "peak_mb": other["peak_mb"],
        "max_abs_diff": np.abs(one - two).max(),
        "top10_overlap": len(top[0] & top[1]),
        "ratio_to_ours": other["cpu_seconds"] / ours["cpu_seconds"],
        "share_of_limit": limit_seconds / other["cpu_seconds"],
    }


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    program.add_argument(
        "--model", type=Path, default=ROOT / "results/models/aligned-a", help="a Llama-like model folder"
    )
    program.add_argument("--queries", type=Path, default=ROOT / "results/queries/advbench.parquet")
    program.add_argument("--n", type=int, default=16, help="queries (default 16)")
    program.add_argument("--formats", nargs="+", default=["template", "chat"])
    program.add_argument("--every", type=int, default=10, help="peers: heads of every n-th layer (default 10)")
    program.add_argument("--threads", type=int, default=2)
    program.add_argument("--tools", nargs="+", default=list(TOOLS), choices=TOOLS, metavar="TOOL")
    program.add_argument("--official", type=Path, metavar="DIR", help="a checkout of ydyjya/SafetyHeadAttribution")
    program.add_argument("--environments", type=Path, metavar="DIR", help="where the peers' environments are kept")
    program.add_argument("--output", type=Path, default=ROOT / "results/benchmarks/head_sweep.csv")
    return program


if __name__ == "__main__":
    main()
