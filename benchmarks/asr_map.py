"""Time full answers with single heads ablated: this project's mixed batches against `generate`, one head at a time.

Both are greedy, in float32, with the same model, queries, ablation (UA) and threads, in one run. `generate` answers all
queries of a head in one batch; as it costs about the same for every head, it is timed for some heads and its seconds
are scaled. Prints a table and writes it as CSV.
"""

import argparse
import sys
import time
from pathlib import Path

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from safety_heads import models, options, queries  # noqa: E402
from safety_heads.decoding import Decoding, Request, left_padded  # noqa: E402
from safety_heads.generation import generate  # noqa: E402
from safety_heads.heads import Ablation, Head  # noqa: E402

UA = Ablation("ua", 1e-5)


def main() -> None:
    args = parser().parse_args()
    torch.set_num_threads(args.threads)
    model, tokenizer = models.load(args.model, device="cpu")
    shape = models.describe(args.model)
    heads = [
        Head(layer, head)
        for layer in range(args.every // 2, shape.n_layers, args.every)
        for head in range(shape.n_heads)
    ]
    frame = queries.draw(queries.read_query_file(args.queries), "eval", args.n)
    rows = []
    for form in args.formats:
        prompts = options.named_format({"name": form}).encode(tokenizer, frame["text"])
        for length in args.max_new_tokens:
            requests = {
                head: [Request(i, p, ((head, UA),)) for i, p in zip(frame["query_id"], prompts, strict=True)]
                for head in heads
            }
            rows += [{**row, "format": form} for row in compare(model, tokenizer, requests, length, args.sample)]
            print(pd.DataFrame(rows[-2:]).to_string(index=False), flush=True)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows).assign(model=args.model.name, n_queries=args.n, n_heads=len(heads))
    table.to_csv(args.output, index=False)
    print(table.round(2).to_markdown(index=False))


def compare(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: dict[Head, list[Request]],
    length: int,
    n_sampled: int,
) -> list[dict]:
    """One row for this project and one for `generate`, with the share of sampled answers that are the same text."""
    every = [request for of_head in requests.values() for request in of_head]
    start = time.process_time()
    [answers] = generate(model, tokenizer, every, [Decoding("greedy", length)], seed=0)
    ours = time.process_time() - start
    n_tokens = sum(answer.n_tokens for answer in answers)
    of_request = dict(zip(every, answers, strict=True))
    sampled = list(requests)[:: max(1, len(requests) // n_sampled)]
    same, start = 0, time.process_time()
    for head in sampled:
        texts = one_head(model, tokenizer, requests[head], length)
        same += sum(text == of_request[request].text for text, request in zip(texts, requests[head], strict=True))
    theirs = (time.process_time() - start) * len(requests) / len(sampled)
    return [
        {"tool": name, "max_new_tokens": length, "cpu_seconds": seconds, "tokens_per_cpu_second": n_tokens / seconds}
        | {"ratio_to_ours": seconds / ours, "same_answers": same / len(sampled) / len(requests[sampled[0]])}
        for name, seconds in (("this project", ours), ("generate, head by head", theirs))
    ]


def one_head(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, requests: list[Request], length: int
) -> list[str]:
    """The answers by transformers' `generate`, the head's rows of q_proj scaled by a hook."""
    [(head, ablation)] = requests[0].intervention
    ids, mask = left_padded([request.prompt for request in requests], model.device)
    rows = slice(head.head * model.config.head_dim, (head.head + 1) * model.config.head_dim)

    def scale(_module, _args, output):
        output[..., rows] *= ablation.epsilon
        return output

    hook = model.model.layers[head.layer].self_attn.q_proj.register_forward_hook(scale)
    end = tokenizer.eos_token_id
    with torch.inference_mode():
        output = model.generate(ids, attention_mask=mask, max_new_tokens=length, do_sample=False, pad_token_id=end)
    hook.remove()
    return [tokenizer.decode(row[ids.shape[1] :], skip_special_tokens=True).strip() for row in output]


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    program.add_argument("--model", type=Path, default=ROOT / "results/models/aligned-a", help="a Llama-like model")
    program.add_argument("--queries", type=Path, default=ROOT / "results/queries/advbench.parquet")
    program.add_argument("--n", type=int, default=24, help="queries (default 24)")
    program.add_argument("--formats", nargs="+", default=["chat"])
    program.add_argument("--max-new-tokens", type=int, nargs="+", default=[20, 128])
    program.add_argument("--every", type=int, default=10, help="heads of every n-th layer only (default 10; 1: all)")
    program.add_argument("--sample", type=int, default=6, help="heads that `generate` is timed on (default 6)")
    program.add_argument("--threads", type=int, default=2)
    program.add_argument("--output", type=Path, default=ROOT / "results/benchmarks/asr_map.csv")
    return program


if __name__ == "__main__":
    main()
