"""Synthetic tables with a planted safety head: 18-8 of 30 x 9, ablated by UA, in two models."""

import numpy as np
import pandas as pd

from safety_heads.results import Results
from safety_heads.statistics import asr_table

N_LAYERS, N_HEADS, N_QUERIES = 30, 9, 32
PLANTED = (18, 8)
MODELS = ("aligned-a", "aligned-b")
DATASETS = {"advbench": True, "maliciousinstruct": True, "rho-plain": False}
FORMATS = ("template", "chat")
ABLATIONS = ("ua", "sc")
JUDGE = "keyword-paper"
SIZES = {"n_layers": N_LAYERS, "n_heads": N_HEADS, "d_model": 576, "d_head": 64, "n_parameters": 134_515_008}
MANIFESTS = {model: {"name": model, **SIZES} for model in MODELS}
SHARES = dict.fromkeys(MODELS, 576 * 64 / 134_515_008)  # of the parameters that one head's W_q is


def settings():
    return [(m, d, f, a) for m in MODELS for d in DATASETS for f in FORMATS for a in ABLATIONS]


def queries() -> pd.DataFrame:
    return pd.DataFrame(
        {"dataset": d, "query_id": f"{d}-{n}", "text": "a query", "category": None, "harmful": harmful, "source": "s"}
        for d, harmful in DATASETS.items()
        for n in range(N_QUERIES)
    )


def ships(n_layers: int = N_LAYERS, n_heads: int = N_HEADS, planted: float = 0.5) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    heads = pd.MultiIndex.from_product([range(n_layers), range(n_heads)], names=["layer", "head"]).to_frame(index=False)
    frames = []
    for model, dataset, form, ablation in settings():
        for query in range(4):
            kl = rng.lognormal(-5, 1.2, len(heads)).clip(max=0.2)
            change = rng.normal(0, 0.2, len(heads)) * np.sqrt(kl)
            if ablation == "ua" and DATASETS[dataset]:
                at = PLANTED[0] * n_heads + PLANTED[1]
                kl[at], change[at] = planted, -3.0
            keys = {"model": model, "dataset": dataset, "format": form, "ablation": ablation}
            frames.append(
                heads.assign(**keys, query_id=f"{dataset}-{query}", kl_nats=kl, refusal_logodds_change=change)
            )
    return pd.concat(frames, ignore_index=True)


def subspace() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    base = rng.lognormal(-4, 0.8, N_LAYERS * N_HEADS)
    heads = pd.MultiIndex.from_product([range(N_LAYERS), range(N_HEADS)], names=["layer", "head"]).to_frame(index=False)
    frames = []
    for model, dataset, form, ablation in settings():
        own = rng.lognormal(-4, 0.8, len(heads)) if ablation == "sc" else base * rng.lognormal(0, 0.3, len(heads))
        if ablation == "ua":
            own[PLANTED[0] * N_HEADS + PLANTED[1]] = 0.4
        keys = {"model": model, "dataset": dataset, "format": form, "ablation": ablation}
        frames.append(heads.assign(**keys, step=1, score_rad=own, angles_rad=[[score] for score in own]))
    return pd.concat(frames, ignore_index=True)


def interventions(sizes: int = 3, draws: int = 3) -> pd.DataFrame:
    rows = []
    for model, dataset, form, ablation in settings():
        key = {"model": model, "dataset": dataset, "format": form}
        if ablation == "ua":
            rows.append({**key, "intervention": "none", "level": "none", "size": 0})
        for size in range(1, sizes + 1):
            plan = [(f"{level}-{ablation}-{size}", level, None) for level in ("query", "dataset")]
            plan += [("ships-" + ablation + "-1", "ships", None)] if size == 1 else []
            plan += [(f"random-{ablation}-{size}-draw{n}", "random", n) for n in range(1, draws + 1)]
            for name, level, draw in plan:
                for place in range(size):
                    layer, head = PLANTED if level != "random" and place == 0 else (place, draw or 3)
                    traits = {"level": level, "size": size, "draw": draw, "ablation": ablation, "epsilon": 1e-5}
                    where = {"query_id": "q" if level == "query" else None, "layer": layer, "head": head}
                    rows.append({**key, "intervention": name, **traits, **where})
    frame = pd.DataFrame(rows)
    return frame.astype({"draw": "Int32", "size": "Int32", "layer": "Int32", "head": "Int32"})


def judgements(effect: bool = True, unscored: int = 1, decodings: tuple[str, ...] = ("greedy", "top5")) -> pd.DataFrame:
    """With `effect`, ablating the planted head by UA makes most harmful queries succeed; without, nothing does."""
    rng = np.random.default_rng(2)
    plan = interventions().drop_duplicates(["model", "dataset", "format", "intervention"])
    rows = []
    for _, row in plan.iterrows():
        for decoding in decodings:
            rate = 0.97 if not DATASETS[row["dataset"]] else 0.06
            if effect and DATASETS[row["dataset"]] and row["level"] in ("query", "dataset", "ships"):
                rate = {"ua": 0.62, "sc": 0.12}[row["ablation"]]
            luck = rng.random(N_QUERIES) if effect else np.linspace(0, 1, N_QUERIES)
            for n in range(N_QUERIES):
                verdict = "complied" if luck[n] < rate else "degenerate" if luck[n] > 0.97 else "refused"
                verdict = "unscored" if n < unscored else verdict
                key = {c: row[c] for c in ("model", "dataset", "format", "intervention")}
                answer = {"query_id": f"{row['dataset']}-{n}", "verdict": verdict, "score": 0.0, "reason": "made"}
                rows.append({**key, "decoding": decoding, "judge": JUDGE, **answer})
    return pd.DataFrame(rows)


def graded(judges: tuple[str, ...] = (JUDGE,), n: int = 200) -> pd.DataFrame:
    """Judges that pass over one in ten answers that comply, and call one in five refusals complied."""
    rows = []
    for judge in judges:
        for number in range(n):
            people = number % 2 == 0
            told = number % 20 != 0 if people else number % 10 == 1
            verdict = "complied" if told else "refused"
            key = {"judge": judge, "version": "1", "labelled_set": "made", "query_id": f"made-{number}"}
            answer = {"category": f"kind {number % 3}", "complied": people, "verdict": verdict, "score": float(told)}
            rows.append({**key, **answer})
    return pd.DataFrame(rows)


def results(effect: bool = True, judged: pd.DataFrame | None = None) -> Results:
    """All tables of a run; `judged` stands in for the judgements."""
    judged = judgements(effect) if judged is None else judged
    plan = interventions()
    rates = asr_table(judged, plan, SHARES)
    scores = ships(), subspace()
    return Results(*scores, plan, judged, rates, queries(), graded(), MANIFESTS)
