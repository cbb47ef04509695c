"""What each job will need, predicted from the configuration and the model's sizes before anything is fetched.

The scheduler is asked for these amounts (rules/resources.smk), doubled at every retry; `snakemake plan` adds them up.
docs/scaling.md derives the formulas and holds them against measured runs. Nothing heavy is imported.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from math import ceil

from safety_heads import selection
from safety_heads.flops import sweep_flops
from safety_heads.heads import Head
from safety_heads.shapes import ModelShape, shape_of

ITEMSIZE = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}  # bytes of a weight
MIB, GIB = 2**20, 2**30
PYTHON_MIB = 600  # torch and transformers, once imported
SNAKEMAKE_MIB = 300  # a job on a node runs two more Snakemakes
QUERY_TOKENS, CHAT_TOKENS, CHARACTERS = 25, 35, 4  # of a query, around it in a chat, and of a token: rough means
UNKNOWN_ROWS = 200  # of a data set that does not say
JUDGE_TOKENS = 400  # of a judge's prompt with an answer in it
TASK_ROWS, TASK_TOKENS = 1100, 350  # of a helpfulness task: its mean examples, and tokens of all choices of one
# Operations per second in effect, in units of 1e12: of one A100 in 2-byte and other dtypes, and of one CPU thread.
GPU_SWEEP, GPU_ANSWER = {2: 150.0, 4: 10.0, 8: 5.0}, {2: 15.0, 4: 3.0, 8: 1.5}
THREAD_SWEEP, THREAD_ANSWER = 0.08, 0.1
GPU_GIB = 80  # memory of one GPU
READ_MIB_S = 500  # from the disk into the model
START_S, LIGHT_S = 15, 10  # to import and check, and a job without a model
MARGIN_MEMORY, MARGIN_TIME, LEAST_MINUTES = 1.25, 3, 15  # what is asked for beyond what is predicted


@dataclass(frozen=True)
class Need:
    """A job's predicted need: `tera_sweep` and `tera_answer` are operations in units of 1e12 of matrix products that
    use a processor well, and of answers token by token; memory of the host and of GPUs; bytes it leaves on the disk."""

    memory_mib: float
    tera_sweep: float = 0.0
    tera_answer: float = 0.0
    read_mib: float = 0.0
    gpu_mib: float = 0.0
    disk_mib: float = 0.05
    itemsize: int = 4

    @property
    def n_gpus(self) -> int:
        """How many GPUs of GPU_GIB the model needs; 0 for jobs without a model on a GPU."""
        return ceil(self.gpu_mib / (GPU_GIB * 1024))

    def seconds(self, on_gpu: bool, threads: int = 1) -> float:
        """Wall time: start, reading of weights, then arithmetic, shared by `threads` unless a GPU does it."""
        if not self.read_mib:
            return LIGHT_S
        sweep, answer = threads * THREAD_SWEEP, threads * THREAD_ANSWER
        if on_gpu:
            sweep, answer = GPU_SWEEP[self.itemsize], GPU_ANSWER[self.itemsize]
        return START_S + self.read_mib / READ_MIB_S + self.tera_sweep / sweep + self.tera_answer / answer


@dataclass(frozen=True)
class Job:
    """A job's model and setting, as the formulas below ask for them."""

    config: Mapping
    results: str
    wildcards: Mapping[str, str]

    @property
    def model(self) -> str:
        return self.wildcards["model"]

    @property
    def declared(self) -> Mapping:
        return self.config["models"][self.model]

    @property
    def shape(self) -> ModelShape:
        return shape_of(self.config, self.model, self.results)[0]

    @property
    def itemsize(self) -> int:
        return ITEMSIZE[self.declared.get("dtype", "float32")]

    @property
    def n_shards(self) -> int:
        return self.declared.get("head_shards", 1)

    def rows(self, dataset: str, number: str | None) -> int:
        """Queries drawn from a data set: `number` names the run's key that limits them."""
        rows = self.config["queries"][dataset].get("rows", UNKNOWN_ROWS)
        rows = rows if self.config["run"]["side"] == "all" else rows // 2
        return min(rows, self.config["run"][number] or rows) if number else rows

    def prompt_tokens(self) -> tuple[int, int]:
        """Tokens of a prompt, and how many of them all prompts of the format share at their beginning."""
        template = self.config["formats"].get(self.wildcards.get("format", ""), "chat_template")
        if template != "chat_template":
            return len(template) // CHARACTERS + QUERY_TOKENS, len(template.split("{query}")[0]) // CHARACTERS
        around = CHAT_TOKENS + len(self.declared.get("system_prompt") or "") // CHARACTERS
        return around + QUERY_TOKENS, around * 2 // 3


def need(config: Mapping, results: str, rule: str, wildcards: Mapping[str, str]) -> Need:
    """The need of a job of `rule`; rules that load no model need little, and the same of every model."""
    formula = FORMULAS.get(rule)
    return formula(Job(config, results, wildcards)) if formula else Need(PYTHON_MIB)


def memory_mb(need: Need, attempt: int) -> int:
    """MB to ask the scheduler for at this attempt, rounded up to hundreds."""
    return ceil((need.memory_mib * MARGIN_MEMORY + SNAKEMAKE_MIB) * 1.048576 / 100) * 100 * 2 ** (attempt - 1)


def minutes(need: Need, on_gpu: bool, threads: int, attempt: int) -> int:
    """Minutes to ask the scheduler for at this attempt, rounded up to fives."""
    asked = max(LEAST_MINUTES, need.seconds(on_gpu, threads) / 60 * MARGIN_TIME)
    return ceil(asked / 5) * 5 * 2 ** (attempt - 1)


def _with_model(job: Job, copies: float, extra_mib: float, **work: float) -> Need:
    """A job that loads the model: `copies` of its weights in memory, and `extra_mib`."""
    weights = job.shape.n_parameters * job.itemsize / MIB
    held = weights * copies + extra_mib
    gpu = weights * 1.1 + extra_mib + 2048
    return Need(PYTHON_MIB + held, read_mib=weights, gpu_mib=gpu, itemsize=job.itemsize, **{"disk_mib": 0.1, **work})


def _fetch_model(job: Job) -> Need:
    return Need(PYTHON_MIB, disk_mib=job.shape.n_parameters * 2 / MIB)  # hubs keep 2-byte weights


def _prepare_model(job: Job) -> Need:
    """A folder is linked; GGUF files and pickles are converted, which takes two copies in memory and one on disk."""
    itemsize = 4 if "gguf" in job.declared else 2 if job.declared.get("pickles") else 0
    written = job.shape.n_parameters * itemsize / MIB
    return Need(PYTHON_MIB + 2 * written, read_mib=max(written, 1) * 3, disk_mib=written)


@cache
def _sweep(shape: ModelShape, n_queries: int, tokens: int, prefix: int) -> float:
    """Operations (1e12) of one ablation of every head, one at a time."""
    heads = [Head(layer, 0) for layer in range(shape.n_layers)]
    return shape.n_heads * sweep_flops(shape, [tokens] * n_queries, prefix, heads) / 1e12


def _kept_mib(job: Job, n_queries: int) -> float:
    """The blocks' inputs that a sweep keeps in memory, 4 GiB of them at most (`cache_gib`)."""
    tokens, prefix = job.prompt_tokens()
    n_tokens = prefix + n_queries * (tokens - prefix)
    return min(4 * 1024, job.shape.n_layers * n_tokens * job.shape.d_model * job.itemsize / MIB)


def _score(job: Job, share: float, copies: float) -> Need:
    run = job.config["run"]
    n_queries = job.rows(job.wildcards["dataset"], "score_queries")
    tera = _sweep(job.shape, n_queries, *job.prompt_tokens()) * len(run["ablations"]) * share / job.n_shards
    rows = job.shape.n_layers * job.shape.n_heads * n_queries * len(run["ablations"]) / job.n_shards
    extra = _kept_mib(job, n_queries) + 256 * job.shape.d_vocab * 4 / MIB + 300  # logits of a batch's last positions
    return _with_model(job, copies, extra, tera_sweep=tera, disk_mib=0.1 + rows * 24 / MIB)


def _score_ships(job: Job) -> Need:
    """A screen takes about 0.7 of the time; it keeps a copy in bfloat16, packed for the processor as well."""
    screened = job.config["run"]["screen"] != "none" and job.itemsize > 2
    return _score(job, *((0.7, 2.0) if screened else (1.0, 1.2)))


def _score_group(job: Job) -> Need:
    n_heads, candidates = job.shape.n_layers * job.shape.n_heads, job.config["run"]["candidates"]
    return _score(job, min(candidates or n_heads, n_heads) / n_heads, 1.2)


def _answers(job: Job, n_answers: int, new_tokens: int, n_decodings: int = 1, copies: float = 1.2) -> Need:
    """Every answer is counted to its full length, so this is an upper bound: drafts and early ends save the rest."""
    tokens = job.prompt_tokens()[0] + new_tokens
    n_all = n_answers * n_decodings
    tera = n_all * tokens * 2 * job.shape.n_parameters / 1e12
    written = n_all * (new_tokens * CHARACTERS / 2 + 20) / MIB  # text compresses to about half
    keys = 64 * tokens * job.shape.n_layers * 2 * job.shape.n_kv_heads * job.shape.d_head * job.itemsize / MIB
    logits = 2048 * job.shape.d_vocab * 4 / MIB  # of the drafts' positions, and of sampling
    return _with_model(job, copies, keys + logits + 300, tera_answer=tera, disk_mib=0.1 + written)


def _longest(job: Job, names: list[str]) -> int:
    return max(job.config["decodings"][name]["max_new_tokens"] for name in names)


def _n_answers(job: Job) -> int:
    """Of one setting, per way of decoding."""
    run, dataset = job.config["run"], job.wildcards["dataset"]
    n_all, n_scored = job.rows(dataset, "generate_queries"), job.rows(dataset, "score_queries")
    size, draws = run["group_size"], run["random_draws"]
    of_all, of_scored = size + 1 + size * draws, size  # data set's groups, Ships' first, random; a query's own groups
    return n_all + len(run["ablations"]) * (of_all * n_all + of_scored * n_scored)


def _generate_responses(job: Job) -> Need:
    decodings = job.config["run"]["decodings"]
    return _answers(job, _n_answers(job), _longest(job, decodings), len(decodings))


def _answer_for_map(job: Job) -> Need:
    n_heads = ceil(job.shape.n_layers * job.shape.n_heads / job.n_shards)
    n = (n_heads + 1) * job.rows(job.wildcards["dataset"], "generate_queries")
    return _answers(job, n, _longest(job, job.config["run"]["decodings"][:1]))


def _answer_experiment(job: Job) -> Need:
    run, how = job.config["run"], job.config["experiments"][job.wildcards["experiment"]]
    n = len(how["interventions"]) * job.rows(job.wildcards["dataset"], "generate_queries")
    copies = 2.2 if "transplant" in how else 1.2  # the donor's weights are loaded beside
    return _answers(job, n, _longest(job, run["decodings"]), len(run["decodings"]), copies)


def _find_refusal_openings(job: Job) -> Need:
    harmful = selection.harmful_queries(job.config)
    return _answers(job, sum(job.rows(name, "score_queries") for name in harmful), 16)


def _measure_helpfulness(job: Job) -> Need:
    """All tasks are read and the benign queries answered, once more unchanged; a pruned model is a copy in memory."""
    how, run = job.config["helpfulness"], job.config["run"]
    benign = [name for name in run["queries"] if name not in selection.harmful_queries(job.config)]
    n_answers = 2 * sum(job.rows(name, "generate_queries") for name in benign)
    answers = _answers(job, n_answers, _longest(job, run["decodings"][:1]), copies=2.2)
    n_tokens = len(how["tasks"]) * (how["examples"] or TASK_ROWS) * TASK_TOKENS
    return replace(answers, tera_sweep=n_tokens * 2 * job.shape.n_parameters / 1e12)


def _judge(job: Job) -> Need:
    """Only a local model needs much: all of the judged model's answers, in one pass each."""
    declared = job.config["judges"][job.wildcards["judge"]]
    if declared["kind"] != "llm-local":
        return Need(PYTHON_MIB + 400)
    harmful = selection.harmful_queries(job.config)
    setting = [{**job.wildcards, "dataset": name} for name in harmful]
    n = sum(_n_answers(replace(job, wildcards=one)) for one in setting) * len(job.config["run"]["formats"])
    judge = replace(job, wildcards={**job.wildcards, "model": declared["model"]})
    tera = n * JUDGE_TOKENS * 2 * judge.shape.n_parameters / 1e12
    return _with_model(judge, 1.2, 2000, tera_sweep=tera)


def _trace_attention(job: Job) -> Need:
    return _answers(job, 30, 1)


def _answer_benign_queries(job: Job) -> Need:
    side, alignment = job.wildcards["side"], job.config["alignment"]
    limit = alignment["exam"]["n"] if side == "eval" else 10**9
    n = sum(min(limit, job.rows(name, None)) for name in selection.benign_answers(job.config))
    return _answers(job, n, selection.answer_length(job.config, side)["max_new_tokens"])


def _align_model(job: Job) -> Need:
    """Lower blocks learn nothing, so training costs about twice a pass; gradients and Adam's moments are float32."""
    lesson, recipe = selection.lesson(job.config, job.model), job.config["alignment"]["recipe"]
    n = sum(lesson["harmful"].values()) + sum(lesson["benign"].values())
    tokens = job.prompt_tokens()[0] + job.config["alignment"]["answer_tokens"]
    tera = n * len(job.config["run"]["formats"]) * recipe["epochs"] * tokens * 4 * job.shape.n_parameters / 1e12
    written = job.shape.n_parameters * 4 / MIB
    return _with_model(job, 4.0, 1000, tera_sweep=tera, disk_mib=written)


def _measure_alignment(job: Job) -> Need:
    exam = job.config["alignment"]["exam"]
    n = exam["n"] * len(selection.examined_queries(job.config)) * len(job.config["run"]["formats"])
    return _answers(job, n, exam["max_new_tokens"])


FORMULAS: Mapping[str, Callable[[Job], Need]] = {
    "fetch_model": _fetch_model,
    "prepare_model": _prepare_model,
    "answer_benign_queries": _answer_benign_queries,
    "align_model": _align_model,
    "measure_alignment": _measure_alignment,
    "find_refusal_openings": _find_refusal_openings,
    "score_ships": _score_ships,
    "score_group": _score_group,
    "generate_responses": _generate_responses,
    "answer_for_map": _answer_for_map,
    "answer_experiment": _answer_experiment,
    "measure_helpfulness": _measure_helpfulness,
    **dict.fromkeys(("judge_responses", "judge_experiments", "judge_benign", "judge_for_map", "grade_judge"), _judge),
    "trace_attention": _trace_attention,
}
