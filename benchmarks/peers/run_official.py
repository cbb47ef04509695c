"""The paper's own code, at a path that the user gives: one prompt and one head at a time, all logits."""

import contextlib
import io
import sys

import torch
from common import Scores, main


def prepare(job: dict):
    sys.path.insert(0, job["code"])
    with contextlib.redirect_stdout(io.StringIO()):
        from lib.SHIPS.get_ships import SHIPS
        from lib.SHIPS.pd_diff import kl_divergence
    from lib.utils.custommodel import CustomLlamaModelForCausalLM

    model = CustomLlamaModelForCausalLM.from_pretrained(job["model"]).eval()
    # With any other implementation this transformers hands the copied attention no causal mask.
    model.config._attn_implementation = model.model.config._attn_implementation = "eager"
    mask = {"mask_qkv": ["q"], "scale_factor": job["epsilon"], "mask_type": "scale_mask"}

    def last(prompt: list[int], config: dict | None) -> torch.Tensor:
        ids = torch.tensor([prompt])
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return SHIPS._get_pd(SHIPS._get_last_logits(SHIPS.one_forward_pass("", model, lambda *_, **__: given, config)))

    def sweep() -> Scores:
        base = [last(prompt, None) for prompt in job["prompts"]]
        scores = []
        for layer, head in job["heads"]:
            config = SHIPS._get_update_mask_cfg(layer, head, mask)
            ablated = [last(prompt, config) for prompt in job["prompts"]]
            scores.append([kl_divergence(*pair).item() for pair in zip(base, ablated, strict=True)])
        return scores

    return sweep


main(prepare)
