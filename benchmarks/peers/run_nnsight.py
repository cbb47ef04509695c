"""nnsight: one trace per head, all prompts in a batch; the head's part of q_proj's output is scaled."""

import torch
from common import Scores, kl, main, right_padded
from nnsight import LanguageModel
from transformers import AutoModelForCausalLM, AutoTokenizer


def prepare(job: dict):
    stock = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    model = LanguageModel(stock, tokenizer=tokenizer)
    ids, last = right_padded(job["prompts"])
    rows, d_head = torch.arange(len(ids)), stock.config.head_dim
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def sweep() -> Scores:
        scores = []
        with model.trace(given):
            hidden = model.model.norm.output.save()
        base = stock.lm_head(hidden[rows, last])
        for layer, head in job["heads"]:
            part = slice(head * d_head, (head + 1) * d_head)
            with model.trace(given):
                q = model.model.layers[layer].self_attn.q_proj.output
                q[:, :, part] = q[:, :, part] * job["epsilon"]
                hidden = model.model.norm.output.save()
            scores.append(kl(base, stock.lm_head(hidden[rows, last])))
        return scores

    return sweep


main(prepare)
