"""The paper's five tasks of helpfulness (fig. 6b) as lm-eval has them: its prompts and metrics, with documents of ours.

The documents come from a source's Arrow files, or from the hub as the stock task names them.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
from lm_eval import tasks as stock
from lm_eval.api.task import ConfigurableTask

from safety_heads import sources
from safety_heads.errors import UserError
from safety_heads.sources import Fetched

FOLDERS = {  # of lm-eval's own configurations
    "boolq": "super_glue/boolq",
    "rte": "glue/rte",
    "winogrande": "winogrande",
    "arc_challenge": "arc",
    "openbookqa": "openbookqa",
}
SPLIT = "validation"
EVALUATED, CALIBRATION = "evaluated", "calibration"

logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of every default that its stock tasks leave open


@dataclass(frozen=True)
class Split:
    """A task's documents: those to evaluate on, and others to calibrate pruning on (empty: what is not evaluated)."""

    evaluation: Sequence[Mapping]
    training: Sequence[Mapping] = ()


def _manager(names: Sequence[str]) -> stock.TaskManager:
    root = Path(stock.__file__).parent
    return stock.TaskManager(include_path=[root / FOLDERS[name] for name in names], include_defaults=False)


def read_local(fetched: Fetched, member: str, task: str) -> Split:
    """The validation documents in an Arrow stream, with the columns that the stock task reads.

    Raises UserError if the member is no Arrow stream, or a document lacks what the task reads.
    """
    try:
        rows = pa.ipc.open_stream(sources.read_member(fetched, member)).read_all().to_pylist()
    except pa.ArrowInvalid as error:
        raise UserError(f"helpfulness.files.{task}: {member} is no Arrow stream ({error}); name another") from error
    if (
        task == "boolq" and rows and "answer" in rows[0]
    ):  # as Google publishes it; SuperGLUE, which lm-eval reads, has labels
        rows = [{**row, "label": int(row["answer"])} for row in rows]
    return Split(rows)


def read_hub(task: str) -> Split:
    """The documents that the stock task is evaluated on (its test split if it has one), from the hub.

    Raises UserError if they cannot be had.
    """
    config = _manager([task]).task_index[task].cfg
    evaluated = config.get("test_split") or config["validation_split"]
    try:
        found = datasets.load_dataset(config["dataset_path"], config.get("dataset_name"))
    except (OSError, ValueError) as error:
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"helpfulness.tasks: {config['dataset_path']} could not be fetched ({told}); run with network access, or "
            f"name a source and files in helpfulness"
        ) from error
    return Split(found[evaluated].to_list(), found[config["training_split"]].to_list())


def draw(task: str, split: Split, n: int | None, n_calibration: int, seed: int) -> pd.DataFrame:
    """A `tables.TASK_EXAMPLES` frame: `n` documents to evaluate on (None: all), others to calibrate on.

    Raises UserError if there are too few.
    """
    n_all = len(split.evaluation)
    n = n_all if n is None else min(n, n_all)
    order = np.random.default_rng(seed).permutation(n_all)
    chosen = [(EVALUATED, place, split.evaluation[place]) for place in sorted(order[:n])]
    if split.training:
        places = np.random.default_rng(seed).permutation(len(split.training))
        others = [(place, split.training[place]) for place in places[:n_calibration]]
    else:
        others = [(place, split.evaluation[place]) for place in order[n : n + n_calibration]]
    if len(others) < n_calibration:
        raise UserError(
            f"{task}: {n} of {n_all} examples are evaluated, so that {len(others)} are left to calibrate pruning on; "
            f"lower helpfulness.examples, or set helpfulness.pruning to {{}}"
        )
    chosen += [(CALIBRATION, place, document) for place, document in others]
    return pd.DataFrame(
        {"task": task, "role": role, "item": int(place), "document": json.dumps(document, sort_keys=True)}
        for role, place, document in chosen
    )


def build(examples: pd.DataFrame, role: str = EVALUATED) -> dict[str, ConfigurableTask]:
    """lm-eval's tasks on our documents, each of which also holds its `item`.

    Raises UserError if a document lacks what the stock task reads.
    """
    rows = examples[examples["role"] == role]
    names = list(rows["task"].unique())
    if unknown := [name for name in names if name not in FOLDERS]:
        raise UserError(f"task {unknown[0]!r} is unknown; choose from {', '.join(FOLDERS)}")
    entries = [_with_documents(name, rows[rows["task"] == name]) for name in names]
    try:
        return _manager(names).load({"group": "helpfulness", "task": entries})["tasks"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"lm-eval cannot read the documents of {', '.join(names)}: {error!r}") from error


def _with_documents(name: str, rows: pd.DataFrame) -> dict:
    documents = [{**json.loads(row.document), "item": row.item} for row in rows.itertuples()]
    found = {SPLIT: datasets.Dataset.from_list(documents)}
    own = {"validation_split": SPLIT, "training_split": None, "test_split": None}
    return {"task": name, "custom_dataset": lambda **_: found, **own}


def contexts(examples: pd.DataFrame) -> list[str]:
    """The prompts of the calibration documents, without answers."""
    tasks = build(examples, CALIBRATION) if (examples["role"] == CALIBRATION).any() else {}
    return [_context(task, document) for task in tasks.values() for document in task.eval_docs]


def _context(task: ConfigurableTask, document: Mapping) -> str:
    text = task.doc_to_text(document)
    if isinstance(text, int):  # WinoGrande: the beginnings differ, and the end is shared
        return f"{task.doc_to_choice(document)[text]} {task.doc_to_target(document)}"
    return text
