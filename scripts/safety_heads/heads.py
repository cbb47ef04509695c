"""What is ablated and how: plain values, which the stages that need no model can use without loading torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from safety_heads.errors import UserError

KINDS = ("ua", "sc", "zero", "mean")
WITHOUT_EPSILON = ("zero", "mean")


@dataclass(frozen=True, order=True)
class Head:
    """One query head; both indices count from zero. The paper writes `layer-head`, e.g. 2-26."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"{self.layer}-{self.head}"


@dataclass(frozen=True)
class Ablation:
    """How a head is ablated: `ua` scales q by epsilon, `sc` scales z by epsilon, `zero` is `sc` with 0, `mean` puts
    the mean z of the layer's heads, at the same position, in the place of the head's.

    Raises UserError for an unknown kind, or an epsilon outside (0, 1] (0 for `zero` and `mean`).
    """

    kind: str
    epsilon: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"ablation kind {self.kind!r} is unknown; choose one of {', '.join(KINDS)}")
        if self.kind in WITHOUT_EPSILON and self.epsilon != 0:
            raise UserError(f"ablation kind {self.kind!r} has no epsilon but 0, not {self.epsilon}; 'sc' scales by one")
        if self.kind not in WITHOUT_EPSILON and not 0 < self.epsilon <= 1:
            raise UserError(f"epsilon {self.epsilon} is outside (0, 1]; the paper uses 1e-5 (kind 'zero' stands for 0)")


AblatedHead = tuple[Head, Ablation]
Intervention = Sequence[AblatedHead]  # what one batch row has ablated; empty = the unchanged model
