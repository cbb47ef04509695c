"""Token ids of a judge's prompt, by the tokenizer and template as published, with the response inside as data."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from math import nan

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from safety_heads.errors import UserError
from safety_heads.judges.contract import Verdict
from safety_heads.judges.presets import Preset
from safety_heads.judges.prompting import CONTROL, neutralise, plain, words

LONGEST_TOKEN = 32  # characters; a response is cut to this many per token before it is cut by tokens
SPARE = 8  # tokens, for those that only appear where the parts of a prompt meet
QUERY, RESPONSE = "QUERY7c1f", "RESPONSE7c1f"  # stand in for them while a chat template is filled


@dataclass(frozen=True)
class Prompt:
    """A prompt so far: `tail` is what follows the response."""

    body: str
    tail: str

    @property
    def text(self) -> str:
        return self.body + self.tail

    def say(self, word: str) -> "Prompt":
        """The prompt after the judge has answered `word`."""
        return replace(self, tail=f"{self.tail} {word}")


class PromptWriter:
    """Writes prompts of `preset` for one tokenizer, of at most `context` tokens."""

    def __init__(self, preset: Preset, tokenizer: PreTrainedTokenizerBase, context: int) -> None:
        self.preset, self.tokenizer, self.context = preset, tokenizer, context
        self.head, self.between, self.tail = self._pieces()
        self.begins = self._begins()
        special = {token for token in tokenizer.added_tokens_decoder.values() if token.special}
        names = {token.content for token in special} | set(tokenizer.all_special_tokens)
        fixed = self.head + self.between + self.tail
        names |= {token for token in tokenizer.get_added_vocab() if token in fixed}
        self.marks = {mark for mark in {*CONTROL, *preset.delimiters, *names} if len(mark.strip()) > 1}
        ids = {tokenizer.convert_tokens_to_ids(name) for name in names if name.strip()}
        self.controls = ids - {tokenizer.unk_token_id, None}
        self.answer_tokens = cache(self._answer_tokens)
        for opening in preset.openings:  # raises before any work if the answers cannot be told apart
            self.answer_tokens(self.open(Prompt("", self.tail), opening).tail)

    def write(self, query: str, response: str) -> Prompt | None:
        """The prompt up to where the judge begins; None if the query leaves no room for a response."""
        query = neutralise(plain(query), self.marks)
        empty = Prompt(self.head + query + self.between, self.tail)
        room = self.context - len(self.ids(empty.text)) - SPARE - self._opening_tokens()
        room = min(room, self.preset.response_tokens or room)
        if room < 1:
            return None
        response = self.cut(neutralise(plain(response)[: LONGEST_TOKEN * room], self.marks), room)
        return Prompt(empty.body + response, self.tail)

    def cut(self, response: str, n_tokens: int) -> str:
        """The first `n_tokens` tokens of `response`, at most LONGEST_TOKEN characters for each."""
        response = response[: LONGEST_TOKEN * n_tokens]
        ids, n_kept = self._plain_ids(response), n_tokens
        while len(ids) > n_tokens:  # again, should the decoded text be encoded otherwise
            response = self.tokenizer.decode(ids[:n_kept], clean_up_tokenization_spaces=False).rstrip("\ufffd")
            response = neutralise(response, self.marks)
            ids, n_kept = self._plain_ids(response), n_kept - 1
        return response

    def open(self, prompt: Prompt, opening: str) -> Prompt:
        """`prompt` with the words that are written for the judge."""
        return prompt if prompt.tail.endswith(opening) else replace(prompt, tail=prompt.tail + opening)

    def ids(self, text: str) -> list[int]:
        """Token ids of a whole prompt. A chat template writes its own special tokens; other prompts get the model's."""
        ids = self._encode(text)
        return ids if ids[: len(self.begins)] == self.begins else [*self.begins, *ids]

    def flaw(self, prompt: Prompt) -> Verdict | None:
        """`unscored` if text of query or response became a control token for all that, or the context is exceeded."""
        ids = self.ids(prompt.text)
        own = [token for token in self.ids(self.head + self.between + prompt.tail) if token in self.controls]
        if [token for token in ids if token in self.controls] != own:
            return Verdict("unscored", nan, "a control token of the judge in query or response")
        return Verdict("unscored", nan, "too long for the context") if len(ids) > self.context else None

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids

    def _plain_ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids

    def _opening_tokens(self) -> int:
        """At most how many tokens are written for the judge, its own answers among them."""
        longest = max((word for word, _ in self.preset.answers), key=len)
        return len(self._plain_ids("".join(f"{opening} {longest}" for opening in self.preset.openings)))

    def _begins(self) -> list[int]:
        """The token that this model's texts begin with, for a prompt that no chat template wrote."""
        start = self.tokenizer.bos_token_id
        usual = self.tokenizer("a").input_ids
        return [start] if self.preset.asked == "text" and start is not None and usual[0] == start else []

    def _pieces(self) -> tuple[str, str, str]:
        """The text before the query, between query and response, and after the response."""
        if self.preset.asked == "text":
            return self.preset.pieces()
        if self.tokenizer.chat_template is None:
            raise UserError(f"preset {self.preset.name!r} needs a chat template and this judge's tokenizer has none")
        for content in (lambda text: text, lambda text: [{"type": "text", "text": text}]):  # Llama Guard 3 1B: parts
            parts = self._fill(content)
            if parts:
                return parts
        raise UserError(
            f"the chat template of this judge does not show its messages; {self.preset.name!r} cannot ask it"
        )

    def _fill(self, content: Callable[[str], object]) -> tuple[str, str, str] | None:
        """The chat template around query and response, or None if it fails or drops one of them."""
        if self.preset.asked == "message":
            head, between, tail = self.preset.pieces()
            messages = [{"role": "user", "content": content(head + QUERY + between + RESPONSE + tail)}]
        else:
            messages = [{"role": "user", "content": content(QUERY)}]
            messages += [{"role": "assistant", "content": content(RESPONSE)}]
        try:
            text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        except (TypeError, ValueError, TemplateError):  # it wants its messages otherwise
            return None
        if text.count(QUERY) != 1 or text.count(RESPONSE) != 1:
            return None
        head, rest = text.split(QUERY)
        between, tail = rest.split(RESPONSE)
        return head, between, tail

    def _answer_tokens(self, tail: str) -> dict[str, list[int]]:
        """For each answer the tokens that stand for it after `tail`: it in any case, with or without a space before,
        where that is one token, and the first token of it as written ("uns" of "unsafe", but not "Un").

        Raises UserError if an answer has no such token of its own.
        """
        context = self._encode(tail)
        found: dict[str, set[int]] = {}
        for word, _ in self.preset.answers:
            found[word] = set()
            for text in {f"{gap}{form}" for gap in ("", " ") for form in (word, word.capitalize(), word.upper())}:
                ids = self._encode(tail + text)
                spelt = ids[len(context) :] if ids[: len(context)] == context else []
                if len(spelt) == 1 or (spelt and text.strip() == word):
                    found[word].add(spelt[0])
        shared = {token for word in found for other in found for token in found[word] & found[other] if word != other}
        for word in found:
            found[word] -= shared | {self.tokenizer.unk_token_id}
            if not found[word]:
                raise UserError(
                    f"this judge's tokenizer cannot tell {words(self.preset)} apart by the first token, "
                    f"which preset {self.preset.name!r} needs; choose another model"
                )
        return {word: sorted(tokens) for word, tokens in found.items()}
