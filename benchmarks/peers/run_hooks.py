"""Plain Hugging Face: a forward hook on q_proj, one full pass per head, at batch 1 (argument: batch 1) or batched."""

import torch
from common import Scores, kl, main, right_padded
from transformers import AutoModelForCausalLM


def prepare(job: dict):
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).eval()
    d_head = model.config.head_dim
    batches = [[prompt] for prompt in job["prompts"]] if job["batch"] == 1 else [job["prompts"]]

    def logits() -> torch.Tensor:
        found = []
        for batch in batches:
            ids, last = right_padded(batch)
            # The head is run at the last positions only, as a careful user would.
            hidden = model.model(input_ids=ids).last_hidden_state[torch.arange(len(ids)), last]
            found.append(model.lm_head(hidden))
        return torch.cat(found)

    def sweep() -> Scores:
        base, scores = logits(), []
        for layer, head in job["heads"]:
            rows = slice(head * d_head, (head + 1) * d_head)

            def scale(_module, _args, output, rows=rows):
                output[..., rows] *= job["epsilon"]
                return output

            hook = model.model.layers[layer].self_attn.q_proj.register_forward_hook(scale)
            scores.append(kl(base, logits()))
            hook.remove()
        return scores

    return sweep


main(prepare)
