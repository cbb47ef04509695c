"""Judges that are language models behind an OpenAI-compatible endpoint.

The verdict is read from the probabilities of the first token where the server tells them, else from an answer that is
one of the judge's words and nothing else. A response without an answer is `unscored`; nothing is guessed. Answers are
kept on disk as they come, so that a run goes on where another stopped.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import nan
from pathlib import Path

import httpx2
from tqdm import tqdm

from safety_heads.errors import UserError
from safety_heads.judges import presets, prompting
from safety_heads.judges.contract import Judge, Verdict
from safety_heads.judges.llm_cache import AnswerCache
from safety_heads.judges.llm_client import ATTEMPTS, Endpoint, FaultError, PassingFaultError, Reply

CONCURRENCY = 8
TIMEOUT_S = 60.0
GIVE_UP = 16  # questions in a row that failed in spite of all attempts: the server is gone
LONGEST_RESPONSE = 20_000  # characters; a longer response loses its end, for the server's context is not known


def open(  # the contract's name
    declaration: dict, cache_folder: str | Path, pace: float = 1.0, attempts: int = ATTEMPTS
) -> Judge:
    """The judge `declaration` (url, model, preset, key_env?, max_concurrency?, timeout_s?) names.

    `pace` scales the waits between attempts, for tests. Raises UserError for an unknown preset or one that is not asked
    in chats, a url or key that cannot be used, or while judging if the server cannot be reached at all.
    """
    preset = presets.find(declaration["preset"])
    if preset.asked == "text" or len(preset.openings) > 1:
        raise UserError(f"preset {preset.name!r} is not asked in a chat, as endpoints are; use kind llm-local")
    timeout_s = declaration.get("timeout_s", TIMEOUT_S)
    concurrency = declaration.get("max_concurrency", CONCURRENCY)
    if timeout_s <= 0 or concurrency < 1:
        raise UserError(f"max_concurrency {concurrency} and timeout_s {timeout_s} of a judge must be positive")
    endpoint = Endpoint(declaration["url"], declaration["model"], declaration.get("key_env"), timeout_s, pace, attempts)
    remote = RemoteJudge(preset, endpoint, AnswerCache(Path(cache_folder)), concurrency)
    return Judge(preset.version, remote.verdicts)


@dataclass
class RemoteJudge:
    """A judge behind an endpoint, asked `concurrency` questions at a time."""

    preset: presets.Preset
    endpoint: Endpoint
    cache: AnswerCache
    concurrency: int
    failed_in_a_row: int = field(default=0, init=False)
    answered: bool = field(default=False, init=False)  # whether the server has ever, as far as is known

    def verdicts(self, queries: Sequence[str], responses: Sequence[str]) -> list[Verdict]:
        """One verdict per response, in order; equal questions are asked once."""
        asked = [self.messages(*pair) for pair in zip(queries, responses, strict=True)]
        keys = [self._key(messages) for messages in asked]
        found = {key: self.cache.load(key) for key in keys}
        open_questions = {key: one for key, one in zip(keys, asked, strict=True) if found[key] is None}
        verdicts = {key: self._verdict(answers) for key, answers in found.items() if answers is not None}
        self.answered = self.answered or bool(verdicts)
        verdicts |= asyncio.run(self._ask_all(open_questions))
        return [verdicts[key] for key in keys]

    def messages(self, query: str, response: str) -> list[dict]:
        """The chat that asks about one response."""
        marks = {*prompting.CONTROL, *self.preset.delimiters}
        query, response = (
            prompting.neutralise(prompting.plain(text)[:LONGEST_RESPONSE], marks) for text in (query, response)
        )
        if self.preset.asked == "conversation":
            return [{"role": "user", "content": query}, {"role": "assistant", "content": response}]
        head, between, tail = self.preset.pieces()
        return [{"role": "user", "content": head + query + between + response + tail}]

    def answers(self, reply: Reply) -> dict[str, float]:
        """The probability of each answer in `reply`: as told, or 1 for the only word of its text; {} if neither."""
        names = [word for word, _ in self.preset.answers]
        if reply.likeliest:
            chances = dict.fromkeys(names, 0.0)
            for token, chance in reply.likeliest:
                word = meant(token, names)
                if word:
                    chances[word] += chance
            return chances
        word = reply.text.strip().strip("\"'.*`").strip().casefold()
        first_line = word.splitlines()[0].strip() if self.preset.asked == "conversation" and word else word
        return {name: float(name == first_line) for name in names} if first_line in names else {}

    def _key(self, messages: list[dict]) -> str:
        judge = {"preset": self.preset.name, "version": self.preset.version}
        return self.cache.key(url=self.endpoint.address, model=self.endpoint.model, messages=messages, **judge)

    def _verdict(self, answers: dict[str, float]) -> Verdict:
        if not answers:
            return Verdict("unscored", nan, f"the answer is not one word of {prompting.words(self.preset)}")
        return prompting.verdict(self.preset, answers)

    async def _ask_all(self, questions: dict[str, list[dict]]) -> dict[str, Verdict]:
        """Verdicts by key, each kept on disk as soon as it is there."""
        verdicts: dict[str, Verdict] = {}
        waiting = iter(questions.items())
        self.failed_in_a_row = 0
        progress = tqdm(total=len(questions), desc=f"judge by {self.preset.name}", unit="answer", mininterval=5)
        wrong: list[Exception] = []
        with progress:
            async with self.endpoint.client(self.concurrency) as client:
                try:
                    async with asyncio.TaskGroup() as group:
                        for _ in range(min(self.concurrency, len(questions))):
                            group.create_task(self._work(client, waiting, verdicts, progress))
                except* UserError as errors:
                    wrong.extend(errors.exceptions)
        if wrong:
            raise wrong[0]
        return verdicts

    async def _work(
        self,
        client: httpx2.AsyncClient,
        waiting: Iterator[tuple[str, list[dict]]],
        verdicts: dict[str, Verdict],
        progress: tqdm,
    ) -> None:
        for key, messages in waiting:
            try:
                answers = self.answers(await self.endpoint.ask(client, messages))
            except FaultError as fault:
                verdicts[key] = Verdict("unscored", nan, str(fault))
                self._count(fault, progress.total)
            else:
                self.failed_in_a_row, self.answered = 0, True
                self.cache.store(key, answers)
                verdicts[key] = self._verdict(answers)
            progress.update()

    def _count(self, fault: FaultError, n_questions: int) -> None:
        """Raise UserError once it is clear that the server is gone: many failures in a row, or nothing but failures
        from a server that cannot be reached or has never answered."""
        if not isinstance(fault, PassingFaultError):
            self.failed_in_a_row = 0
            return
        self.failed_in_a_row += 1
        all_failed = self.failed_in_a_row == n_questions and not (fault.reached and self.answered)
        if all_failed or self.failed_in_a_row >= GIVE_UP:
            raise self._unreachable() from None

    def _unreachable(self) -> UserError:
        return UserError(
            f"the judge at {self.endpoint.url} does not answer; start the server or mend url, then run again: "
            "verdicts that it has given are kept"
        )


def meant(token: str, names: Sequence[str]) -> str | None:
    """The answer that a first token is, in any case, or begins, as written, if no other answer begins so; else None."""
    text = token.strip()
    if text.casefold() in names:
        return text.casefold()
    begun = [name for name in names if name.startswith(text)]
    return begun[0] if len(begun) == 1 and len(text) > 1 else None
