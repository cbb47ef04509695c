"""One question to an OpenAI-compatible endpoint, asked again while the fault may pass.

httpx2, which transformers' hub client brings anyway, rather than the openai client: that one reads addresses and keys
from the environment, and brings retries of its own. Nothing but the configured address is connected to: no proxy of the
environment, no redirect. The key stands in one header and nowhere else, and no text of the server goes into messages.
"""

import asyncio
import email.utils
import logging
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import exp

import httpx2
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from safety_heads.errors import UserError

ATTEMPTS = 6
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
LONGEST_RETRY_AFTER_S = 600.0
PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}
TOP_LOGPROBS = 20  # the most that the interface allows
MAX_TOKENS = 8  # a line break or a quotation mark may come before the answer

logging.getLogger("httpx2").setLevel(logging.WARNING)  # it would log every request


class FaultError(Exception):
    """A question without an answer; the message says why."""


class PassingFaultError(FaultError):
    """A fault of the line or the server, that may pass; `reached` is whether a server took the question."""

    def __init__(self, message: str, wait_s: float = 0.0, reached: bool = True) -> None:
        super().__init__(message)
        self.wait_s, self.reached = wait_s, reached


@dataclass(frozen=True)
class Reply:
    """What the judge said: its text, and for the first token that is no space the likeliest tokens, if told."""

    text: str
    likeliest: tuple[tuple[str, float], ...] = ()  # token, probability


@dataclass
class Endpoint:
    """`{url}/chat/completions`. `key_env` names the environment variable of the key; `pace` scales all waits."""

    url: str
    model: str
    key_env: str | None = None
    timeout_s: float = 60.0
    pace: float = 1.0
    attempts: int = ATTEMPTS
    with_logprobs: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self.address = chat_address(self.url)
        self._key = read_key(self.key_env)

    def client(self, connections: int) -> httpx2.AsyncClient:
        """A client for as many questions at once."""
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        return httpx2.AsyncClient(
            headers=headers, timeout=self.timeout_s, limits=limits, trust_env=False, follow_redirects=False
        )

    async def ask(self, client: httpx2.AsyncClient, messages: list[dict]) -> Reply:
        """The reply to `messages`. Raises FaultError when there is none after all attempts, UserError if the address,
        the model's name or the key is wrong."""
        again = AsyncRetrying(
            retry=retry_if_exception_type(PassingFaultError),
            stop=stop_after_attempt(self.attempts),
            wait=self._wait,
            reraise=True,
        )
        async for attempt in again:
            with attempt:
                return await self._once(client, messages)
        raise AssertionError("tenacity ends with a reply or an exception")

    def _wait(self, state: RetryCallState) -> float:
        """Seconds until the next attempt: exponential with jitter, and never less than the server asks for."""
        backoff = wait_exponential_jitter(initial=FIRST_WAIT_S, max=LONGEST_WAIT_S, jitter=FIRST_WAIT_S)(state)
        fault = state.outcome.exception()
        return self.pace * max(backoff, fault.wait_s)

    async def _once(self, client: httpx2.AsyncClient, messages: list[dict]) -> Reply:
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": MAX_TOKENS}
        more = {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if self.with_logprobs else {}
        answer = await self._post(client, body | more)
        if more and answer.status_code in (400, 422):  # the question may be at fault, or these fields unknown
            answer = await self._post(client, body)
            self.with_logprobs = answer.status_code != 200
        self._check(answer)
        return read_reply(answer)

    async def _post(self, client: httpx2.AsyncClient, body: dict) -> httpx2.Response:
        try:
            async with asyncio.timeout(self.timeout_s):
                return await client.post(self.address, json=body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise PassingFaultError(f"no connection ({type(error).__name__})", reached=False) from None
        except (TimeoutError, httpx2.TimeoutException):
            raise PassingFaultError(f"no answer in {self.timeout_s:g} s") from None
        except httpx2.TransportError as error:
            raise PassingFaultError(f"the connection broke ({type(error).__name__})") from None

    def _check(self, answer: httpx2.Response) -> None:
        code = answer.status_code
        if code in (401, 403):
            key = f"the key in {self.key_env}" if self.key_env else "key_env, for no key was sent"
            raise UserError(f"{self.url} refuses the judge with HTTP {code}; check {key}")
        if code == 404:
            raise UserError(f"{self.url} knows no model {self.model!r} or no chat completions; check url and model")
        if code in PASSING:
            raise PassingFaultError(f"HTTP {code}", retry_after(answer))
        if code != 200:
            raise FaultError(f"HTTP {code}")


def chat_address(url: str) -> str:
    """The address of chat completions at `url`, with or without `/v1`. UserError for what is no plain http(s)."""
    try:
        parts = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError) as error:
        raise UserError(f"url of a judge cannot be read: {error}; give one like https://host:port/v1") from None
    if parts.scheme not in ("http", "https") or not parts.host or parts.userinfo or parts.query or parts.fragment:
        raise UserError(
            f"url of a judge must be like https://host:port/v1, without user, query or fragment; {parts.host!r} is not"
        )
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    path = path if path else "/v1"
    return str(parts.copy_with(path=f"{path}/chat/completions"))


def read_key(variable: str | None) -> str | None:
    """The key in an environment variable. Raises UserError, without the key, if it is missing or fits no header."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(f"key_env of a judge names {variable}, which is not set; export it, or leave key_env out")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"{variable} holds characters that no key has (spaces, line breaks, or not ASCII); set it anew")
    return key


def retry_after(answer: httpx2.Response) -> float:
    """Seconds that the server asks to wait, in either form of the header (RFC 9110, 10.2.3); 0 if it does not."""
    value = answer.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        seconds = float(value)
    else:
        try:
            moment = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return 0.0
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)


def read_reply(answer: httpx2.Response) -> Reply:
    """The reply in a chat completion. Raises PassingFaultError if it is none."""
    try:
        choice = answer.json()["choices"][0]
        text = choice["message"]["content"]
        tokens = (choice.get("logprobs") or {}).get("content") or []
        first = next((token for token in tokens if token["token"].strip()), None)
        likeliest = {} if first is None else {first["token"]: first["logprob"]}
        likeliest |= {one["token"]: one["logprob"] for one in (first or {}).get("top_logprobs") or []}
        chances = tuple((token, exp(min(float(logprob), 0.0))) for token, logprob in likeliest.items())
        if not isinstance(text, str):
            raise TypeError
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise PassingFaultError("an answer that is no chat completion") from None
    return Reply(text, chances)
