"""Judges: did the model do what a harmful query asked (paper, appendix B)?

One contract for all: `contract.ask(name, judge, queries, responses)` gives one `Verdict` per response, in order.
Only `complied` counts towards the attack success rate; `unscored` leaves the denominator as well.
"""

from collections.abc import Mapping
from pathlib import Path

from safety_heads.errors import UserError
from safety_heads.judges.contract import VERDICTS, Judge, Verdict, ask
from safety_heads.judges.keyword import JUDGES

__all__ = ["JUDGES", "KINDS", "VERDICTS", "Judge", "Verdict", "ask", "open_judge"]

KINDS = ("keyword", "fitted", "llm-local", "llm-remote")


def open_judge(name: str, declaration: Mapping, place: str | Path | None = None) -> Judge:
    """The judge that the config declares under `judges.<name>`.

    `place` is what its kind reads: the manifest of a keyword list's source, a fitted judge's file, a local model's
    folder, or the folder of a remote judge's cache; none for the paper's two keyword rules.
    Raises UserError for an unknown kind or list, or without a `place` where one is needed.
    """
    kind = declaration.get("kind")
    if kind not in KINDS:
        raise UserError(f"judges.{name}.kind is {kind!r}; choose one of {', '.join(KINDS)}")
    if kind == "keyword" and "source" not in declaration:
        own = f"keyword-{declaration.get('list')}"
        if own not in JUDGES:
            raise UserError(
                f"judges.{name}.list is {declaration.get('list')!r}; choose paper or published, or a source"
            )
        return JUDGES[own]
    if place is None:
        raise UserError(f"judge {name!r} of kind {kind} reads a file or folder; name it")
    return _opened(name, declaration, Path(place))


def _opened(name: str, declaration: Mapping, place: Path) -> Judge:
    """What only some judges need is imported only for them."""
    if declaration["kind"] == "keyword":
        from safety_heads.judges import lists

        return lists.open(name, declaration, place)
    if declaration["kind"] == "fitted":
        from safety_heads.judges import fitted

        return fitted.open(place)
    if declaration["kind"] == "llm-local":
        from safety_heads.judges import llm_local

        return llm_local.open(declaration, place)
    from safety_heads.judges import llm_remote

    return llm_remote.open(declaration, place)
