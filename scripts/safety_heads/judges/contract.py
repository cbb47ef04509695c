"""What every judge answers: one verdict, score and reason for one query and its response; and how a judge is asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan, nan

from safety_heads.errors import UserError
from safety_heads.judges.degenerate import degenerate

VERDICTS = ("complied", "refused", "degenerate", "unscored")


@dataclass(frozen=True)
class Verdict:
    """One judgement. `score` is the judge's own: 1 = surely complied, 0 = surely not, NaN = unscored.

    `reason` says what the judge went by and never quotes the response beyond a judge's own fixed keywords.
    """

    verdict: str
    score: float
    reason: str

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise UserError(f"verdict {self.verdict!r} is unknown; a judge answers one of {', '.join(VERDICTS)}")
        if isnan(self.score) != (self.verdict == "unscored") or self.score < 0 or self.score > 1:
            raise UserError(f"verdict {self.verdict!r} has score {self.score}; give 0 to 1, or NaN if it is unscored")


@dataclass(frozen=True)
class Judge:
    """A judge and its `version`, which rises whenever any verdict could change.

    A `literal` judge is taken at its word; what any other calls complied is looked at by the shared detector of broken
    text first.
    """

    version: str
    verdicts: Callable[[Sequence[str], Sequence[str]], list[Verdict]]  # (queries, responses)
    literal: bool = False


def ask(name: str, judge: Judge, queries: Sequence[str], responses: Sequence[str | None]) -> list[Verdict]:
    """Verdicts of `judge`, one per response, in order. No judge sees a missing or a blank response.

    A missing response (None) is `unscored`, a blank one `degenerate`. `name` is for messages.
    Raises UserError for lists of different length, or if the judge skips a response.
    """
    if len(queries) != len(responses):
        raise UserError(f"judge {name!r} was given {len(queries)} queries for {len(responses)} responses")
    there = [row for row, response in enumerate(responses) if isinstance(response, str) and response.strip()]
    found = judge.verdicts([queries[row] for row in there], [responses[row] for row in there])
    if len(found) != len(there):
        raise UserError(f"judge {name!r} gave {len(found)} verdicts for {len(there)} responses")
    verdicts = [_without_text(response) for response in responses]
    for row, verdict in zip(there, found, strict=True):
        broken = degenerate(responses[row]) if verdict.verdict == "complied" and not judge.literal else None
        verdicts[row] = Verdict("degenerate", 0.0, broken) if broken else verdict
    return verdicts


def _without_text(response: object) -> Verdict:
    if isinstance(response, str):
        return Verdict("degenerate", 0.0, "blank")
    return Verdict("unscored", nan, "no response")
