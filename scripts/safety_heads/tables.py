"""The Parquet tables that the stages exchange: schemas, provenance, checked writes and reads.

Tidy: one row states one fact, and its key columns are unique. Every file carries in its metadata what made it.
"""

import json
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from safety_heads.errors import UserError
from safety_heads.files import atomic_path

SCHEMA_VERSION = 1
PROVENANCE_KEY = b"safety_heads"
LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "scipy", "pandas", "pyarrow", "scikit-learn")


@dataclass(frozen=True)
class Table:
    """A table's name, columns with Arrow types, and the columns whose values together are unique."""

    name: str
    schema: pa.Schema
    key: tuple[str, ...]


def _table(name: str, key: str, **columns: pa.DataType) -> Table:
    required = set(key.split()) - {"query_id", "layer", "head"}
    fields = [pa.field(column, kind, nullable=column not in required) for column, kind in columns.items()]
    return Table(name, pa.schema(fields), tuple(key.split()))


_TEXT, _INT, _REAL = pa.string(), pa.int32(), pa.float64()
_SETTING = {"model": _TEXT, "dataset": _TEXT, "format": _TEXT}
_HEAD = {"layer": _INT, "head": _INT}
_GENERATED = {**_SETTING, "decoding": _TEXT, "intervention": _TEXT, "query_id": _TEXT}

QUERIES = _table(
    "queries",
    "dataset query_id",
    **{"dataset": _TEXT, "query_id": _TEXT, "text": _TEXT, "category": _TEXT, "harmful": pa.bool_(), "source": _TEXT},
)
OPENINGS = _table("openings", "model format token_id", model=_TEXT, format=_TEXT, token_id=_INT, token=_TEXT, n=_INT)
SHIPS = _table(
    "ships",
    "model dataset format ablation query_id layer head",
    **_SETTING,
    ablation=_TEXT,
    query_id=_TEXT,
    **_HEAD,
    kl_nats=_REAL,
    refusal_logodds_change=_REAL,  # null where the model has no refusals to take openings from
)
SUBSPACE = _table(
    "subspace",
    "model dataset format ablation step layer head",
    **_SETTING,
    ablation=_TEXT,
    step=_INT,
    **_HEAD,
    score_rad=_REAL,
    angles_rad=pa.list_(_REAL),
)
SAHARA = _table(
    "sahara",
    "model dataset format ablation step",
    **_SETTING,
    ablation=_TEXT,
    step=_INT,
    **_HEAD,
    score_rad=_REAL,
)
# One row per ablated head. `none` has one row without a head; a null query_id applies to every query.
INTERVENTIONS = _table(
    "interventions",
    "model dataset format intervention query_id layer head",
    intervention=_TEXT,
    **_SETTING,
    level=_TEXT,  # none | query | dataset | ships | random | map | layer | carrier | suppressor
    size=_INT,
    draw=_INT,
    query_id=_TEXT,
    **_HEAD,
    ablation=_TEXT,
    epsilon=_REAL,
)
# One row per entry of an attention matrix: how much the token at `row` attends to that at `column`.
PATTERNS = _table(
    "patterns",
    "model dataset format query_id layer head scaled epsilon row column",
    **_SETTING,
    query_id=_TEXT,
    **_HEAD,
    scaled=_TEXT,  # q | k | v | mean q | mean k
    epsilon=_REAL,
    row=_INT,
    column=_INT,
    weight=_REAL,
)
GENERATIONS = _table(
    "generations",
    "model dataset format decoding intervention query_id",
    **_GENERATED,
    response=_TEXT,
    n_tokens=_INT,
    stop_reason=_TEXT,  # end | length
)
LABELLED = _table(
    "labelled",
    "labelled_set query_id",
    labelled_set=_TEXT,
    query_id=_TEXT,
    query=_TEXT,
    response=_TEXT,
    complied=pa.bool_(),  # as people say
    category=_TEXT,
)
# What a judge says of a labelled set, beside what people say. No texts.
GRADED = _table(
    "graded",
    "judge labelled_set query_id",
    judge=_TEXT,
    version=_TEXT,
    labelled_set=_TEXT,
    query_id=_TEXT,
    category=_TEXT,
    complied=pa.bool_(),
    verdict=_TEXT,
    score=_REAL,
)
JUDGEMENTS = _table(
    "judgements",
    "model dataset format decoding intervention query_id judge",
    **_GENERATED,
    judge=_TEXT,
    verdict=_TEXT,  # complied | refused | degenerate | unscored
    score=_REAL,
    reason=_TEXT,
)
ASR = _table(
    "asr",
    "model dataset format decoding intervention judge",
    **_SETTING,
    decoding=_TEXT,
    intervention=_TEXT,
    ablation=_TEXT,
    level=_TEXT,
    size=_INT,
    draw=_INT,
    parameters_share=_REAL,  # of the model's parameters that the ablated heads are
    judge=_TEXT,
    n=_INT,
    n_complied=_INT,
    n_degenerate=_INT,
    n_unscored=_INT,
    asr=_REAL,
    low=_REAL,
    high=_REAL,
)
# A document of an lm-eval task, as JSON; `item` is its place in the split that it comes from.
TASK_EXAMPLES = _table(
    "task_examples",
    "task role item",
    task=_TEXT,
    role=_TEXT,  # evaluated | calibration
    item=_INT,
    document=_TEXT,
)
_TREATED = {"model": _TEXT, "task": _TEXT, "treatment": _TEXT, "method": _TEXT, "metric": _TEXT}
OUTCOMES = _table(  # per example: accuracy and refusal 0 or 1, nats_per_token a number
    "outcomes",
    "model task treatment metric item",
    **_TREATED,  # task: of lm-eval, or a benign data set; method: none | ua | sc | zero | mean | wanda | sparsegpt
    item=_TEXT,
    value=_REAL,
)
# Rates, or perplexities; the change is against the unchanged model on the same examples, and a factor for perplexities.
HELPFULNESS = _table(
    "helpfulness",
    "model task treatment metric",
    **_TREATED,  # task `all`: the tasks of lm-eval together
    n=_INT,
    value=_REAL,
    low=_REAL,
    high=_REAL,
    n_pairs=_INT,
    change=_REAL,
    change_low=_REAL,
    change_high=_REAL,
    p_value=_REAL,
)


def provenance(**parameters: object) -> dict:
    """What made a table: versions of schema, code and libraries, and the caller's parameters. No timestamps."""
    root = Path(__file__).resolve().parents[2]
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True)
    installed = {d.metadata["Name"].lower() for d in metadata.distributions()} & set(LIBRARIES)
    return {
        "schema_version": SCHEMA_VERSION,
        "code_version": git.stdout.strip() or "unknown",
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in sorted(installed)},
        "parameters": parameters,
    }


def check_rows(frame: pd.DataFrame, table: Table, where: str) -> None:
    """Raise UserError if columns are missing, a key column holds nulls or a key occurs twice."""
    missing = [name for name in table.schema.names if name not in frame.columns]
    if missing:
        raise UserError(f"{where}: column {missing[0]!r} is missing; a {table.name} table has {table.schema.names}")
    for column in (field.name for field in table.schema if not field.nullable):
        if frame[column].isna().any():
            raise UserError(f"{where}: row {frame[column].isna().to_numpy().argmax()} has no {column!r}")
    twice = frame.duplicated(list(table.key))
    if twice.any():
        raise UserError(f"{where}: row {twice.to_numpy().argmax()} repeats an earlier {table.name} key {table.key}")


def write_table(frame: pd.DataFrame, table: Table, path: str | Path, **parameters: object) -> None:
    """Check `frame` against `table` and write it with provenance; the final name appears only when complete."""
    check_rows(frame, table, str(path))
    arrow = pa.Table.from_pandas(frame[table.schema.names], schema=table.schema, preserve_index=False)
    stamp = json.dumps(provenance(table=table.name, **parameters), sort_keys=True, default=str)
    arrow = arrow.replace_schema_metadata({PROVENANCE_KEY: stamp.encode()})
    with atomic_path(path) as partial:
        pq.write_table(arrow, partial, write_page_checksum=True)


def read_provenance(path: str | Path) -> dict:
    """The provenance that `write_table` stored in `path`."""
    stamp = (_open(path).metadata or {}).get(PROVENANCE_KEY)
    if stamp is None:
        raise UserError(f"{path} carries no provenance: it was not written by this project")
    return json.loads(stamp)


def read_table(table: Table, paths: str | Path | Iterable[str | Path]) -> pd.DataFrame:
    """Read one file or several as one frame, each checked against `table`; keys are unique over all.

    Raises UserError naming the file that is missing, damaged, or not such a table. A damaged one is set aside under
    another name, so that the next run makes it anew.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    frames = []
    for path in paths:
        schema = _open(path)
        missing = [name for name in table.schema.names if name not in schema.names]
        if missing:
            raise UserError(
                f"{path}: column {missing[0]!r} is missing; is it a {table.name} table? Delete it and rerun"
            )
        try:
            arrow = pq.read_table(path, columns=table.schema.names, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from error
        frames.append(arrow.cast(table.schema).to_pandas())
    frame = pd.concat(frames, ignore_index=True) if len(frames) != 1 else frames[0]
    check_rows(frame, table, ", ".join(map(str, paths[:3])))
    return frame


def _open(path: str | Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: str | Path, error: Exception) -> UserError:
    """The error that names a file which cannot be read, now under another name."""
    aside = Path(f"{path}.damaged")
    reason = f"{path} is damaged or no Parquet file ({str(error).splitlines()[0]})"
    if getattr(error, "errno", None):  # the disk's or the permissions' fault, not the file's
        return UserError(f"{reason}; mend that and run again")
    try:
        Path(path).replace(aside)
    except OSError:
        return UserError(f"{reason}; delete it and run again")
    return UserError(f"{reason}; it was set aside as {aside.name}: run again, and it is made anew")
