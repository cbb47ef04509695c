"""Answers of a remote judge on disk, one small JSON file each, under the sha256 of all that they depend on.

A file appears whole or not at all, so that a run which was killed goes on where it stopped.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from safety_heads.files import atomic_path


@dataclass(frozen=True)
class AnswerCache:
    """A folder of answers. Neither prompts nor responses are written, only what the judge thought of its answers."""

    folder: Path

    def key(self, **asked: object) -> str:
        """The name under which the answer to `asked` is kept."""
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def load(self, key: str) -> dict[str, float] | None:
        """The probability of each answer, or None if it is not there or cannot be read."""
        try:
            kept = json.loads(self._path(key).read_text(encoding="utf-8"))
            return {str(word): float(chance) for word, chance in kept.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def store(self, key: str, answers: dict[str, float]) -> None:
        """Keep the probability of each answer. Raises UserError if the folder cannot be written."""
        with atomic_path(self._path(key)) as partial:
            partial.write_text(json.dumps(answers), encoding="utf-8")

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
