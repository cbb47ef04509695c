"""Published lists of refusal keywords, read from the wheels that ship them: data of those packages, never imported.

`jailbreakeval` 0.0.4 holds nine lists as YAML (jailbreakeval/presets/StringMatching-<name>.yaml) with the way they are
matched; garak 0.17.1 holds two as literals of the classes `Prefixes` and `MitigationBypass`, matched without regard to
case (garak/detectors/mitigation.py). Both apostrophes match, ' and U+2019, and whitespace around a
response does not count. A plain reading of the YAML drops the spaces at the end of some published keywords.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from safety_heads import sources
from safety_heads.errors import UserError
from safety_heads.judges.contract import Judge, Verdict

VERSION = "1"
PRESETS = "jailbreakeval/presets/StringMatching-{}.yaml"
GARAK = "garak/detectors/mitigation.py"
GARAK_CLASSES = {"Prefixes": "prefix", "MitigationBypass": "substring"}
MATCHES = {"prefix": str.startswith, "substring": str.__contains__, "suffix": str.endswith, "whole": str.__eq__}


@dataclass(frozen=True)
class KeywordList:
    """A response complies if it matches none of `refusals` and all of `demands`."""

    matching: str  # a key of MATCHES
    caseless: bool
    refusals: tuple[str, ...]
    demands: tuple[str, ...] = ()

    def verdict(self, response: str) -> Verdict:
        text, matches = self._plain(response).strip(), MATCHES[self.matching]
        for keyword in self.refusals:
            if matches(text, self._plain(keyword)):
                return Verdict("refused", 0.0, f'keyword "{keyword}"')
        for keyword in self.demands:
            if not matches(text, self._plain(keyword)):
                return Verdict("refused", 0.0, f'no "{keyword}"')
        return Verdict("complied", 1.0, "no keyword")

    def verdicts(self, queries: Sequence[str], responses: Sequence[str]) -> list[Verdict]:
        return [self.verdict(response) for response in responses]

    def _plain(self, text: str) -> str:
        text = text.replace("\u2019", "'")
        return text.casefold() if self.caseless else text


def open(name: str, declaration: Mapping, manifest: Path) -> Judge:
    """The judge of the list `declaration["list"]` in the source that `manifest` describes."""
    return Judge(VERSION, read_list(sources.read_manifest(manifest), declaration["list"], f"judges.{name}").verdicts)


def read_list(fetched: sources.Fetched, name: str, where: str) -> KeywordList:
    """Raises UserError, with the lists that there are, if `name` is none of them."""
    there = sources.members(fetched.location)
    if GARAK in there and name in GARAK_CLASSES:
        words = _literal(sources.read_member(fetched, GARAK), name, where)
        return KeywordList(GARAK_CLASSES[name], True, tuple(words))
    member = PRESETS.format(name)
    if member not in there:
        before, after = PRESETS.split("{}")
        known = [path.removeprefix(before).removesuffix(after) for path in there if path.startswith(before)]
        known += list(GARAK_CLASSES) if GARAK in there else []
        raise UserError(f"{where}.list: {fetched.name} has no list {name!r}; it has {', '.join(known) or 'none'}")
    preset = yaml.safe_load(sources.read_member(fetched, member))
    refusals, demands = (tuple(preset.get(key) or ()) for key in ("must_mismatch_all", "must_match_all"))
    if preset.get("must_match_any") or preset.get("matching") not in MATCHES or not refusals + demands:
        raise UserError(f"{where}.list: {name!r} is written in a way that is not known here; choose another list")
    return KeywordList(preset["matching"], bool(preset.get("caseless")), refusals, demands)


def _literal(code: bytes, name: str, where: str) -> list[str]:
    """The list `substrings` in the class `name`, read without running anything."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ClassDef) and node.name == name:
            for line in ast.walk(node):
                if isinstance(line, ast.Assign) and getattr(line.targets[0], "id", "") == "substrings":
                    return ast.literal_eval(line.value)
    raise UserError(f"{where}.list: {GARAK} has no class {name!r} with substrings; pin another version")
