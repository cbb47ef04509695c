"""Sahara: the safety attention head attribution algorithm (paper, section 4.2, algorithm 1).

Start with no head; at each step score every other head by generalised Ships of the group with it, always against the
model without any ablation, and add the best. Scores of a step are rows of the subspace table, so a step can be shared
out over many jobs; this module only chooses.
"""

from collections.abc import Sequence

import pandas as pd

from safety_heads.errors import UserError
from safety_heads.heads import Head


def ranked(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of one step, highest score first; ties go to the lower layer, then the lower head."""
    return scores.sort_values(["score_rad", "layer", "head"], ascending=[False, True, True])


def grow(subspace: pd.DataFrame) -> pd.DataFrame:
    """The heads chosen at each scored step of one setting, in order: the rows of the sahara table.

    Raises UserError if a step is missing, or if a step scored a head that had been chosen before it.
    """
    steps = sorted(subspace["step"].unique())
    if steps != list(range(1, len(steps) + 1)):
        raise UserError(f"subspace scores hold the steps {steps}; score every step from 1 on")
    chosen = pd.concat([ranked(subspace[subspace["step"] == step]).head(1) for step in steps], ignore_index=True)
    if chosen.duplicated(["layer", "head"]).any():
        raise UserError("a head was scored again after it had been chosen; delete the later steps and run again")
    return chosen.drop(columns="angles_rad")


def group(subspace: pd.DataFrame) -> list[Head]:
    """The heads chosen so far."""
    return [Head(int(row.layer), int(row.head)) for row in grow(subspace).itertuples()]


def candidates(subspace: pd.DataFrame, heads: Sequence[Head], limit: int | None = None) -> list[Head]:
    """Those of `heads` to score at the next step: all but the chosen ones, as in the paper.

    With a `limit`, only the `limit` heads that scored best at step 1, the chosen ones among them.
    """
    first = ranked(subspace[subspace["step"] == 1]).head(limit or len(subspace))
    allowed = {Head(int(row.layer), int(row.head)) for row in first.itertuples()} - set(group(subspace))
    return [head for head in heads if head in allowed]
