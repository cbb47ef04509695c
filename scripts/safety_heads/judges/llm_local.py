"""Judges that are language models on this machine, read from the probabilities of their answer's first token.

A response that exceeds the judge's limit (the published one, or else its context) loses its end; the instruction after
it always stays. See docs/judges_llm.md for what guards a judge against the response that it reads.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor
from tqdm import tqdm
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from safety_heads import models
from safety_heads.decoding import left_padded
from safety_heads.errors import UserError
from safety_heads.judges import presets, prompting
from safety_heads.judges.contract import Judge, Verdict
from safety_heads.judges.local_prompts import PromptWriter
from safety_heads.prompts import length_groups

BATCH_SIZE = 16
TOKENS_PER_BATCH = 32768  # padding included


def open(declaration: dict, model_folder: str | Path) -> Judge:  # the contract's name
    """The judge `declaration` (preset, batch_size?, dtype?, device?) names, with the model in `model_folder`.

    Raises UserError for an unknown preset, a folder without a whole model, or a model that the preset cannot ask.
    """
    preset = presets.find(declaration["preset"])
    model, tokenizer = load(model_folder, declaration.get("dtype", "auto"), declaration.get("device", "auto"))
    local = LocalJudge(preset, model, tokenizer, declaration.get("batch_size", BATCH_SIZE))
    return Judge(preset.version, local.verdicts)


def load(folder: str | Path, dtype: str, device: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in `folder`, in evaluation mode, and its tokenizer; dtype `auto` is the checkpoint's own."""
    if dtype != "auto" and dtype not in models.DTYPES:
        raise UserError(f"dtype {dtype!r} of a judge is unknown; choose auto or one of {', '.join(models.DTYPES)}")
    folder = Path(folder)
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds an adapter only; merge it into its base model and give the merged folder")
    models.check_folder(folder)
    number = dtype if dtype == "auto" else getattr(torch, dtype)
    how = {"trust_remote_code": models.trusts_code(folder)} | ({"device_map": "auto"} if device == "spread" else {})
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=number, use_safetensors=True, **how)
    except (ValueError, OSError) as error:
        raise UserError(f"the judge in {folder} cannot be loaded: {str(error).splitlines()[0]}") from error
    if device != "spread":
        model = model.to(models.resolve_device(device))
    return model.eval(), models.load_tokenizer(folder)


@dataclass
class LocalJudge:
    """A loaded judge. `batch_size` is halved for good whenever the memory does not suffice."""

    preset: presets.Preset
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    batch_size: int = BATCH_SIZE

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"batch_size {self.batch_size} of a judge must be at least 1")
        self.writer = PromptWriter(self.preset, self.tokenizer, context_length(self.model, self.tokenizer))

    def verdicts(self, queries: Sequence[str], responses: Sequence[str]) -> list[Verdict]:
        """One verdict per response, in order."""
        verdicts = [Verdict("unscored", nan, "the query leaves no room in the context")] * len(responses)
        prompts = [self.writer.write(*pair) for pair in zip(queries, responses, strict=True)]
        rows = [row for row, prompt in enumerate(prompts) if prompt is not None]
        asked = [prompts[row] for row in rows]
        for opening in self.preset.openings[:-1]:
            asked = [self.writer.open(prompt, opening) for prompt in asked]
            chances = self.probabilities(asked)
            asked = [prompt.say(max(one, key=one.__getitem__)) for prompt, one in zip(asked, chances, strict=True)]
        asked = [self.writer.open(prompt, self.preset.openings[-1]) for prompt in asked]
        for row, prompt, chance in zip(rows, asked, self.probabilities(asked), strict=True):
            verdicts[row] = self.writer.flaw(prompt) or prompting.verdict(self.preset, chance)
        return verdicts

    def probabilities(self, prompts: Sequence) -> list[dict[str, float]]:
        """The probability of each answer as the next token of each prompt."""
        encoded = [self.writer.ids(prompt.text) for prompt in prompts]
        answers = [self.writer.answer_tokens(prompt.tail) for prompt in prompts]
        found: list[dict[str, float]] = [{}] * len(prompts)
        for rows in self._batches([len(ids) for ids in encoded]):
            chances = self._next_token([encoded[row] for row in rows])
            for row, chance in zip(rows, chances, strict=True):
                found[row] = {word: float(chance[tokens].sum()) for word, tokens in answers[row].items()}
        return found

    def _batches(self, lengths: list[int]) -> Iterator[list[int]]:
        """Places of prompts of like length, groups of the longest first, so that want of memory shows early."""
        size = self.batch_size  # as it is now: `_next_token` splits what was meant for more memory
        with tqdm(total=len(lengths), desc=f"judge by {self.preset.name}", unit="answer", mininterval=5) as progress:
            for group in reversed(length_groups(lengths, most=TOKENS_PER_BATCH)):
                for start in range(0, len(group), size):
                    yield (rows := group[start : start + size])
                    progress.update(len(rows))

    def _next_token(self, prompts: list[list[int]]) -> Tensor:
        """Probabilities `[rows, d_vocab]` of the next token, in float32; fewer rows at a time if memory runs out."""
        chances = []
        while len(chances) < len(prompts):
            try:
                chances += self._forward(prompts[len(chances) : len(chances) + self.batch_size])
            except (RuntimeError, MemoryError) as error:
                if self.batch_size == 1 or not (isinstance(error, MemoryError) or should_reduce_batch_size(error)):
                    raise
                self.batch_size //= 2
                clear_device_cache(garbage_collection=True)
        return torch.stack(chances)

    @torch.inference_mode()
    def _forward(self, prompts: list[list[int]]) -> list[Tensor]:
        ids, mask = left_padded(prompts, self.model.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=1, use_cache=False
        ).logits
        return list(logits[:, -1].float().softmax(-1).cpu())


def context_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """How many tokens model and tokenizer both take."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return min(limit or tokenizer.model_max_length, tokenizer.model_max_length)
