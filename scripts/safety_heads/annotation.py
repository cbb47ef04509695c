"""A spot check of the judges by hand: a sample of the answers, the page to label it on, and the labels that come back.

The sample is stratified: every model, data set and kind of intervention (none, ablated, random heads) has a part in it,
and answers that the judges call differently are drawn more often, for they are few and tell most. A weight, how many
answers each stands for, undoes this. Whoever labels sees the query and the answer, nothing else.
"""

import base64
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from safety_heads.errors import UserError
from safety_heads.judges.contract import VERDICTS
from safety_heads.statistics import intervention_traits
from safety_heads.tables import GENERATIONS

CLASSES = tuple(name for name in VERDICTS if name != "unscored")
LABELS = (*CLASSES, "unclear")
COLUMNS = ("sample", "id", "label", "seconds", "weight")
STRATUM = ["model", "dataset", "kind", "agree"]
DISPUTED = 0.5  # share of the sample that goes to answers that the judges call differently, as far as there are any
KEY = list(GENERATIONS.key)


def identify(generations: pd.DataFrame, n: int, seed: int) -> tuple[pd.DataFrame, str]:
    """The answers in the order of their key, each with an opaque `id`, and the digest that names the sample.

    Both depend on all answers, on `n` and `seed`, and not on the judges: labels outlive a new judge, and never fit
    other answers.
    """
    answers = generations[[*KEY, "response"]].sort_values(KEY, ignore_index=True)
    rows = json.dumps([n, seed, answers.to_numpy().tolist()])
    digest = _name("s", rows)
    return answers.assign(id=[_name("r", json.dumps([digest, *key])) for key in answers[KEY].to_numpy()]), digest


def _name(letter: str, text: str) -> str:
    """A short checksum that begins with a letter, so that no spreadsheet takes it for a number."""
    return letter + hashlib.sha256(text.encode()).hexdigest()[:12]


def strata(answers: pd.DataFrame, judgements: pd.DataFrame, interventions: pd.DataFrame) -> pd.DataFrame:
    """`answers` with the columns `kind` (none | ablated | random) and `agree`, whether the judges gave one verdict.

    Unscored verdicts count for nothing. Raises UserError for an intervention that no interventions table holds.
    """
    names = ["model", "dataset", "format", "intervention"]
    traits = intervention_traits(interventions)[[*names, "level"]]
    answers = answers.merge(traits, on=names, how="left")
    if answers["level"].isna().any():
        row = answers[answers["level"].isna()].iloc[0]
        raise UserError(
            f"intervention {row['intervention']!r} of {row['model']!r} is in no interventions table; add it"
        )
    answers["kind"] = answers.pop("level").map(lambda level: level if level in ("none", "random") else "ablated")
    scored = judgements[judgements["verdict"] != "unscored"]
    verdicts = scored.groupby(KEY)["verdict"].nunique().rename("n_verdicts").reset_index()
    answers = answers.merge(verdicts, on=KEY, how="left")
    return answers.assign(agree=answers.pop("n_verdicts").fillna(0) <= 1)


def allocate(sizes: pd.Series, shares: pd.Series, n: int) -> pd.Series:
    """How many to draw of each stratum: one, and then always of the one furthest below its share, while it has any.

    Raises UserError if `n` is less than the number of strata: some answers would have nobody to speak for them.
    """
    if n < len(sizes):
        raise UserError(f"annotation.n {n} is less than the {len(sizes)} strata of the answers; raise it to that")
    drawn = pd.Series(1, index=sizes.index)
    for _ in range(min(n, sizes.sum()) - len(sizes)):
        drawn[(drawn / shares)[drawn < sizes].idxmin()] += 1
    return drawn


def draw_sample(answers: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """`n` of the answers of `strata` (all, if there are fewer), shuffled, with the `weight` of each.

    The weight is the stratum's size over how many of it were drawn, so that the weights sum to the number of answers.
    """
    rng = np.random.default_rng(seed)
    sizes = answers.groupby(STRATUM).size()
    agree = sizes.index.get_level_values("agree").to_numpy(dtype=bool)
    shares = pd.Series(np.where(agree, (1 - DISPUTED) / max(agree.sum(), 1), DISPUTED / max((~agree).sum(), 1)))
    drawn = allocate(sizes, shares.set_axis(sizes.index), n)
    parts = []
    for stratum, rows in answers.groupby(STRATUM):
        chosen = rng.choice(len(rows), drawn[stratum], replace=False)
        parts.append(rows.iloc[chosen].assign(weight=sizes[stratum] / drawn[stratum]))
    sample = pd.concat(parts, ignore_index=True)
    return sample.iloc[rng.permutation(len(sample))].reset_index(drop=True)


def page(template: str, sample: pd.DataFrame, digest: str) -> str:
    """The page to label `sample` (columns id, query, response, weight) on.

    No text of it can become markup: in the JSON `<`, `>` and `&` are escapes, the script only ever sets text, and the
    page's content policy allows that one script, by its checksum, and no connection.
    """
    script = re.findall(r"<script>(.*?)</script>", template, re.DOTALL)
    if len(script) != 1 or template.count("__DATA__") != 1 or template.count("__SCRIPT_SHA256__") != 1:
        raise UserError("the annotation template needs one script, one __DATA__ and one __SCRIPT_SHA256__")
    rows = sample[["id", "query", "response", "weight"]].to_dict("records")
    text = json.dumps({"sample": digest, "rows": rows})  # ASCII: every other character is an escape already
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    checksum = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    return template.replace("__SCRIPT_SHA256__", checksum).replace("__DATA__", text)


def read_labels(path: str | Path, answers: pd.DataFrame, digest: str) -> pd.DataFrame:
    """The labels that the page exported: columns id, label ("" where there is none), weight.

    `answers` and `digest` are those of `identify`. Raises UserError naming the line of a row that is of another sample,
    has an unknown id, comes twice, or has a bad label, time or weight; or saying that rows are missing.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as CSV ({error}); give the file that the page exported") from error
    if missing := [name for name in COLUMNS if name not in frame.columns]:
        raise UserError(f"{path} has no column {missing[0]!r}; give the file that the page exported")
    weight, seconds = (pd.to_numeric(frame[name], errors="coerce") for name in ("weight", "seconds"))
    faults = {  # in the order in which they are told
        "sample {sample!r} is not this run's, " + repr(digest) + ": its answers, seed or annotation.n differ. "
        "Label this run's page": frame["sample"] != digest,
        "id {id!r} is unknown; export the page's CSV again": ~frame["id"].isin(answers["id"]),
        "id {id!r} comes twice; delete one of the rows": frame.duplicated("id"),
        "label {label!r} is none of " + ", ".join(LABELS) + "; mend it, or leave it empty": (
            ~frame["label"].isin([*LABELS, ""])
        ),
        "seconds {seconds!r} is no time; export the page's CSV again": (
            ~seconds.ge(0) & (frame["label"].ne("") | frame["seconds"].ne(""))
        ),
        "weight {weight!r} is no number from 1; export the page's CSV again": ~(weight.ge(1) & np.isfinite(weight)),
    }
    for message, wrong in faults.items():
        if wrong.any():
            row = frame[wrong].iloc[0]
            raise UserError(f"{path}, line {row.name + 2}: " + message.format(**row[list(COLUMNS)]))
    if not np.isclose(weight.sum(), len(answers)):
        raise UserError(
            f"{path}: the weights sum to {weight.sum():.1f}, not to the {len(answers)} answers: rows are missing or "
            "weights were changed; export the page's CSV again"
        )
    return frame[["id", "label"]].assign(weight=weight)
