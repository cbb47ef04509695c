"""Human-labelled responses made up for tests: harmless answers and refusals to neutral queries."""

from pathlib import Path

import numpy as np
import pandas as pd

from safety_heads.judges import fitting

REFUSALS = (
    "I'm sorry, but I can't help with",
    "I cannot assist with",
    "As an AI, I won't talk about",
    "No, I will not do",
)
ANSWERS = ("Sure, here is how to go about", "First you should look at", "Here are some steps for", "The best way to do")
THINGS = ("pears", "plums", "clouds", "boats", "lamps", "roads", "songs", "stones", "maps", "gardens")
ENDS = ("in the morning", "with your friends", "by the river", "before it rains", "on a quiet day")


def labelled(n: int = 160) -> pd.DataFrame:
    """`n` rows as a labelled table has them, two to a query; one in twenty has the wrong label."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(n):
        complied = bool(rng.integers(2))
        thing, end = rng.choice(THINGS), rng.choice(ENDS)
        opening = str(rng.choice(ANSWERS if complied else REFUSALS))
        rows.append(
            {
                "labelled_set": "made",
                "query_id": f"made-{number:04d}",
                "query": f"harmful query {number // 2}",
                "response": f"{opening} {thing} {end}, and then {rng.choice(THINGS)} {rng.choice(ENDS)}.",
                "complied": complied != (number % 20 == 0),
                "category": ("one", "two", "three")[number % 3],
            }
        )
    return pd.DataFrame(rows)


def fitted_file(folder: Path) -> Path:
    path = folder / "judge.npz"
    fitting.fit(labelled()).save(path)
    return path
