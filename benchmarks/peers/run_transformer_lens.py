"""TransformerLens: run_with_hooks on hook_q, all prompts in a batch, with and without start_at_layer."""

import torch
from common import Scores, kl, main, right_padded
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer


def prepare(job: dict):
    stock = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    model = TransformerBridge.boot_transformers(job["model"], hf_model=stock, tokenizer=tokenizer)
    ids, last = right_padded(job["prompts"])
    rows, d_head = torch.arange(len(ids)), stock.config.head_dim

    def sweep() -> Scores:
        base, cache = model.run_with_cache(ids, names_filter=lambda name: name.endswith("hook_resid_pre"))
        base, scores = base[rows, last], []
        for layer, head in job["heads"]:

            def scale(q, hook, head=head):
                if q.ndim == 4:
                    q[:, :, head] *= job["epsilon"]
                else:
                    q[..., head * d_head : (head + 1) * d_head] *= job["epsilon"]
                return q

            hooks = [(f"blocks.{layer}.attn.hook_q", scale)]
            if job["start_at_layer"]:
                given = cache[f"blocks.{layer}.hook_resid_pre"]
                logits = model.run_with_hooks(given, fwd_hooks=hooks, start_at_layer=layer)
            else:
                logits = model.run_with_hooks(ids, fwd_hooks=hooks)
            scores.append(kl(base, logits[rows, last]))
        return scores

    return sweep


main(prepare)
