"""What all peers share: read the job, time the sweep in CPU seconds, write scores. Runs in each peer's environment."""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

Scores = list[list[float]]  # [heads][prompts], nats


def kl(base: torch.Tensor, ablated: torch.Tensor) -> list[float]:
    """KL(base || ablated) of logits `[prompts, d_vocab]`."""
    p, q = base.double().log_softmax(-1), ablated.double().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).tolist()


def right_padded(prompts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids `[prompts, pos]` and the last position of each; under a causal mask the padding is never seen."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True)
    return ids, torch.tensor([len(prompt) - 1 for prompt in prompts])


def main(prepare: Callable[[dict], Callable[[], Scores]]) -> None:
    """`prepare` loads the model and gives the sweep; only the sweep is timed. Arguments: job.json, result.json."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    with torch.no_grad():
        sweep = prepare(job)
        start = time.process_time()
        scores = sweep()
        seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    Path(sys.argv[2]).write_text(json.dumps({"scores": scores, "cpu_seconds": seconds, "peak_mb": peak}))
