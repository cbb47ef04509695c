"""What every judge answers: one verdict, score and reason for one query and its response."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from safety_heads.errors import UserError

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


@dataclass(frozen=True)
class Judge:
    """A judge and its `version`, which rises whenever any verdict could change."""

    version: str
    verdicts: Callable[[Sequence[str], Sequence[str]], list[Verdict]]  # (queries, responses)
