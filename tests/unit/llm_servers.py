"""Endpoints on 127.0.0.1 for remote judges: `transformers serve`, one that tells probabilities, a proxy of faults."""

import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import tiny_models
from safety_heads import models

CHAT = "/v1/chat/completions"


def spelling_model(word: str, folder: Path) -> Path:
    """A Llama that answers `word` to every chat: its blocks add nothing, and each letter leads to the next."""
    tokenizer = tiny_models.tokenizer()
    n_vocab = tiny_models.N_VOCAB
    config = LlamaConfig(
        hidden_size=n_vocab + n_vocab % 2, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, max_position_embeddings=4096, vocab_size=n_vocab, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    letters = [tokenizer.convert_tokens_to_ids(letter) for letter in f":{word}"]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(n_vocab, config.hidden_size))
        model.lm_head.weight.zero_()
        for token, follower in zip(letters, [*letters[1:], 2], strict=True):
            model.lm_head.weight[follower, token] = 9.0
    models.save(model, tokenizer, folder)
    return folder


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def transformers_serve(folder: Path, log: Path) -> Iterator[str]:
    """The url of `transformers serve` with the model in `folder`."""
    port = free_port()
    command = [Path(sys.executable).with_name("transformers"), "serve", folder, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--device", "cpu", "--dtype", "float32"]
    with log.open("w") as lines:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        server = subprocess.Popen([*map(str, command)], stdout=lines, stderr=lines, env=environment)
        try:
            _wait_for(port, server, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait(30)


def _wait_for(port: int, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.2)
    raise RuntimeError(f"transformers serve did not start:\n{log.read_text()[-2000:]}")


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler, bytes], None], port: int = 0) -> Iterator[str]:
    """The url of a server whose POST requests `answer` handles."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with suppress(BrokenPipeError, ConnectionResetError):
                answer(self, body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def send(handler: BaseHTTPRequestHandler, code: int, body: bytes, **headers: str) -> None:
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


class FaultProxy:
    """Hands questions on to `upstream`, but for the faults in store: each is used up by one request.

    `faults(question)` names the fault of a request, or None; `asked` holds the questions that were handed on.
    """

    def __init__(self, upstream: str, faults: Callable[[str], str | None] = lambda question: None) -> None:
        self.upstream, self.faults = upstream, faults
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.n_requests = 0
        self.lock = threading.Lock()

    def __call__(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        question = json.loads(body)["messages"][0]["content"]
        with self.lock:
            self.n_requests += 1
            self.headers.append(dict(handler.headers))
            fault = self.faults(question)
        echo = json.dumps({"error": str(handler.headers)}).encode()  # the worst: a server that tells what it was sent
        match fault:
            case None:
                self._hand_on(handler, body, question)
            case "429":
                send(handler, 429, echo, Retry_After="1")
            case "redirect":
                send(handler, 307, echo, Location=f"{self.upstream}/chat/completions")
            case "malformed":
                send(handler, 200, b'{"choices": [{"message"')
            case "no completion":
                send(handler, 200, echo)
            case "hang":
                time.sleep(3)
            case "drop":
                handler.connection.shutdown(socket.SHUT_RDWR)
                handler.close_connection = True
            case code:
                send(handler, int(code), echo)

    def _hand_on(self, handler: BaseHTTPRequestHandler, body: bytes, question: str) -> None:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.upstream}/chat/completions", body, headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                code, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            code, content = error.code, error.read()
        if code == 200:
            with self.lock:
                self.asked.append(question)
        send(handler, code, content)


class ProbabilityServer:
    """Answers chats with a model's own probabilities of the first token, as the interface has them."""

    def __init__(self, model, tokenizer, longest: int = 1250) -> None:
        self.model, self.tokenizer, self.longest = model, tokenizer, longest
        self.lock = threading.Lock()

    def __call__(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        question = json.loads(body)
        text = self.tokenizer.apply_chat_template(question["messages"], add_generation_prompt=True, tokenize=False)
        ids = self.tokenizer(text, add_special_tokens=False).input_ids[-self.longest :]
        with self.lock, torch.inference_mode():
            chances = self.model(torch.tensor([ids])).logits[0, -1].softmax(-1)
        best, tokens = chances.topk(min(question.get("top_logprobs", 0), 20) or 1)
        told = [
            {"token": self.tokenizer.decode([token]), "logprob": math.log(chance)}
            for chance, token in zip(best.tolist(), tokens.tolist(), strict=True)
        ]
        choice = {"index": 0, "message": {"role": "assistant", "content": told[0]["token"]}, "finish_reason": "length"}
        if question.get("logprobs"):
            choice["logprobs"] = {"content": [{**told[0], "top_logprobs": told}]}
        send(handler, 200, json.dumps({"object": "chat.completion", "choices": [choice]}).encode())
