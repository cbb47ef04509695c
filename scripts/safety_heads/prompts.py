"""From a query to token ids whose last position is exactly where the answer begins (paper, fig. 10).

direct: the query alone. template: `## Query: {query} ## Answer:`. chat: the model's own chat template.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from safety_heads.errors import UserError

CHAT = "chat_template"
LENGTH_SLACK = 1.15  # prompts share a batch while the longest is at most this much longer than the shortest
TEMPLATES = {"direct": "{query}", "template": "## Query: {query} ## Answer:", "chat": CHAT}


@dataclass(frozen=True)
class PromptFormat:
    """A named format: `template` holds `{query}`, or is `chat_template` for the tokenizer's own.

    `system_prompt` goes into the chat template only; None leaves the template's default.
    """

    name: str
    template: str
    system_prompt: str | None = None

    def __post_init__(self) -> None:
        if self.template != CHAT and "{query}" not in self.template:
            raise UserError(f"formats.{self.name}: {self.template!r} holds neither {{query}} nor is it {CHAT!r}")

    def render(self, tokenizer: PreTrainedTokenizerBase, query: str) -> str:
        """The prompt's text. Raises UserError if a chat template is asked of a tokenizer that has none."""
        if self.template != CHAT:
            return self.template.replace("{query}", query)
        if tokenizer.chat_template is None:
            raise UserError(f"format {self.name!r} needs a chat template and this model's tokenizer has none")
        system = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
        messages = [*system, {"role": "user", "content": query}]
        return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    def encode(self, tokenizer: PreTrainedTokenizerBase, queries: Sequence[str]) -> list[list[int]]:
        """Token ids, one list per query. A chat template writes its own special tokens; the others get the model's."""
        texts = [self.render(tokenizer, query) for query in queries]
        return tokenizer(texts, add_special_tokens=self.template != CHAT).input_ids


def prompt_format(name: str, template: str | None = None, system_prompt: str | None = None) -> PromptFormat:
    """The format called `name`; `template` may be left out for direct, template and chat."""
    if template is None and name not in TEMPLATES:
        raise UserError(f"format {name!r} is unknown; choose one of {', '.join(TEMPLATES)} or give its template")
    return PromptFormat(name, template or TEMPLATES[name], system_prompt or None)


def shared_prefix_length(prompts: Sequence[Sequence[int]]) -> int:
    """How many leading tokens all prompts share, leaving each at least one token of its own."""
    shortest = min(len(prompt) for prompt in prompts)
    for position in range(shortest - 1):
        if len({prompt[position] for prompt in prompts}) > 1:
            return position
    return shortest - 1


def length_groups(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Indices of the prompts, grouped so that padding wastes little: longest <= LENGTH_SLACK x shortest in each group,
    and no group has more than `most` tokens (or one prompt). Groups of shorter prompts come first."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    groups: list[list[int]] = []
    for i in order:
        alike = groups and lengths[i] <= LENGTH_SLACK * lengths[groups[-1][0]]
        if alike and (len(groups[-1]) + 1) * lengths[i] <= most:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups
