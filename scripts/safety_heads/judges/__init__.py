"""Judges: did the model do what a harmful query asked (paper, appendix B)?

One contract for all: `judge(name, queries, responses)` gives one `Verdict` per response, in order.
Only `complied` counts towards the attack success rate; `unscored` leaves the denominator as well.
"""

from collections.abc import Sequence
from math import nan

from safety_heads.errors import UserError
from safety_heads.judges import keyword
from safety_heads.judges.contract import VERDICTS, Judge, Verdict

__all__ = ["JUDGES", "VERDICTS", "Judge", "Verdict", "judge"]

JUDGES = {
    "keyword-paper": Judge("1", keyword.paper),
    "keyword-published": Judge("1", keyword.published),
}


def judge(name: str, queries: Sequence[str], responses: Sequence[str | None]) -> list[Verdict]:
    """Verdicts of the judge `name`, one per response; a missing response (None) is `unscored`.

    Raises UserError for an unknown judge, for lists of different length, or if the judge skips a response.
    """
    if name not in JUDGES:
        raise UserError(f"judge {name!r} is unknown; choose one of {', '.join(JUDGES)}")
    if len(queries) != len(responses):
        raise UserError(f"judge {name!r} was given {len(queries)} queries for {len(responses)} responses")
    there = [row for row, response in enumerate(responses) if isinstance(response, str)]
    found = JUDGES[name].verdicts([queries[row] for row in there], [responses[row] for row in there])
    if len(found) != len(there):
        raise UserError(f"judge {name!r} gave {len(found)} verdicts for {len(there)} responses")
    verdicts = [Verdict("unscored", nan, "no response")] * len(responses)
    for row, verdict in zip(there, found, strict=True):
        verdicts[row] = verdict
    return verdicts
