"""This project: the exact sweep in float32, or in bfloat16 with the best tenth again in float32."""

from common import Scores, main

from safety_heads import models, scoring, screening
from safety_heads.heads import Ablation, Head


def prepare(job: dict):
    heads, ids = [Head(*place) for place in job["heads"]], [str(i) for i in range(len(job["prompts"]))]
    model, _ = models.load(job["model"], "float32", "cpu")
    coarse = models.load(job["model"], "bfloat16", "cpu")[0] if job["screen"] else None

    def sweep() -> Scores:
        ablation, exact = Ablation("ua", job["epsilon"]), scoring.Scorer(model, job["prompts"])
        if coarse is None:
            ships, _ = scoring.score_heads(exact, heads, ablation, ids)
        else:
            rough = scoring.Scorer(coarse, job["prompts"], check=exact.check)
            ships, _ = screening.screen_heads(rough, exact, heads, ablation, ids)
        table = ships.pivot(index=["layer", "head"], columns="query_id", values="kl_nats")[ids]
        return table.loc[[tuple(place) for place in job["heads"]]].to_numpy().tolist()

    return sweep


main(prepare)
