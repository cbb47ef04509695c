"""pyvene: a zero intervention on one head's query per pass, all prompts in a batch (0 in the place of epsilon)."""

import pyvene
import torch
from common import Scores, kl, main, right_padded
from transformers import AutoModelForCausalLM


def prepare(job: dict):
    stock = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32, attn_implementation="eager").eval()
    ids, last = right_padded(job["prompts"])
    rows = torch.arange(len(ids))

    def sweep() -> Scores:
        base, scores = stock(input_ids=ids).logits[rows, last], []
        for layer, head in job["heads"]:
            how = {
                "layer": layer,
                "component": "head_query_output",
                "unit": "h",
                "intervention_type": pyvene.ZeroIntervention,
            }
            intervened = pyvene.IntervenableModel(how, model=stock)
            _, output = intervened({"input_ids": ids}, unit_locations={"base": head})
            scores.append(kl(base, output.logits[rows, last]))
        return scores

    return sweep


main(prepare)
