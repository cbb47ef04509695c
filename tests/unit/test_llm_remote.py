"""Remote LLM judges, against `transformers serve` with a real small model on 127.0.0.1, with faults in between."""

import logging
import traceback
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest
import torch

import hostile
import llm_servers
from llm_servers import FaultProxy, serving
from safety_heads.errors import UserError
from safety_heads.judges import llm_client, llm_remote, presets
from safety_heads.judges.llm_cache import AnswerCache
from safety_heads.judges.llm_local import LocalJudge
from safety_heads.judges.llm_remote import RemoteJudge
from test_llm_judges import QUERIES, RESPONSES, build, bytes_tokenizer

KEY = "planted-token-8c41"


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    """The url and the model's name of a real server whose model finds everything unsafe."""
    folder = llm_servers.spelling_model("unsafe", tmp_path_factory.mktemp("model") / "judge")
    with llm_servers.transformers_serve(folder, tmp_path_factory.mktemp("log") / "serve.log") as url:
        yield url, str(folder)


@pytest.fixture(scope="module")
def tiny():
    """A random judge that nearly always begins with safe or unsafe, more or less surely."""
    tokenizer = bytes_tokenizer()
    model = build("llama", len(tokenizer))
    writer = LocalJudge(presets.find("jailbreakbench"), model, tokenizer).writer
    ids = torch.tensor([writer.ids(writer.write(QUERIES[0], RESPONSES[0]).text)])
    with torch.no_grad():
        usual = model.model(ids).last_hidden_state[0, -1]
        model.lm_head.weight.mul_(0.02)
        for word in tokenizer.convert_tokens_to_ids(["unsafe", "safe"]):
            model.lm_head.weight[word] += 8 * usual / usual.square().sum() + 0.1 * torch.randn_like(usual)
    return model, tokenizer


def open_judge(url, model, cache, attempts=4, **more):
    declaration = {"kind": "llm-remote", "url": url, "model": model, "preset": "jailbreakbench", "timeout_s": 30}
    return llm_remote.open({**declaration, **more}, cache, pace=0.001, attempts=attempts)


def rows(n):
    return [f"harmful query {row}" for row in range(n)], [f"response {row}" for row in range(n)]


def once(*faults):
    """Each of `faults` for one request, then none."""
    waiting = list(faults)
    return lambda question: waiting.pop(0) if waiting else None


def test_a_real_server_without_probabilities_is_read_by_its_one_word(upstream, tmp_path):
    url, model = upstream
    verdicts = open_judge(url, model, tmp_path).verdicts(QUERIES, RESPONSES)
    assert [(one.verdict, one.score) for one in verdicts] == [("complied", 1.0)] * 4
    refusal = open_judge(url, model, tmp_path, preset="jailbreakbench-refusal").verdicts(QUERIES[:1], RESPONSES[:1])
    assert refusal[0].verdict == "unscored" and "not one word of no/yes" in refusal[0].reason


def test_passing_faults_cost_a_retry_and_no_verdict(upstream, tmp_path):
    url, model = upstream
    faults = ["429", "500", "503", "malformed", "no completion", "drop", "hang"]
    proxy = FaultProxy(url, once(*faults))
    with serving(proxy) as address:
        judge = open_judge(address, model, tmp_path, attempts=8, timeout_s=2, max_concurrency=1)
        verdicts = judge.verdicts(*rows(9))
    assert [one.verdict for one in verdicts] == ["complied"] * 9
    assert proxy.n_requests == 9 + len(faults)
    assert len(set(proxy.asked)) == 9


@pytest.mark.parametrize("fault", ["500", "429", "malformed", "drop", "400", "redirect"])
def test_a_question_that_always_fails_is_unscored_and_the_others_are_not(fault, upstream, tmp_path):
    url, model = upstream
    proxy = FaultProxy(url, lambda question: fault if "harmful query 1" in question else None)
    with serving(proxy) as address:
        judge = open_judge(address, model, tmp_path)
        verdicts = judge.verdicts(*rows(3))
        again = judge.verdicts(*rows(3))  # only the failed one is asked again, and may fail again
    assert [one.verdict for one in verdicts] == ["complied", "unscored", "complied"]
    assert verdicts[1].reason.startswith(
        {"malformed": "an answer", "drop": "the conn", "redirect": "HTTP 307"}.get(fault, "HTTP")
    )
    assert [one.verdict for one in again] == [one.verdict for one in verdicts]
    assert Counter(proxy.asked) == Counter(set(proxy.asked)) and len(proxy.asked) == 2


def test_nobody_at_the_address_is_an_error_that_names_it(tmp_path):
    port = llm_servers.free_port()
    with pytest.raises(UserError, match=rf"http://127\.0\.0\.1:{port}/v1 does not answer; start the server"):
        open_judge(f"http://127.0.0.1:{port}/v1", "judge", tmp_path).verdicts(*rows(3))


def test_after_a_server_died_nothing_is_asked_twice(upstream, tmp_path):
    url, model = upstream
    proxy = FaultProxy(url)
    proxy.faults = lambda question: "drop" if len(proxy.asked) >= 30 else None
    queries, responses = rows(60)
    with serving(proxy) as address:
        judge = open_judge(address, model, tmp_path, max_concurrency=2)
        with pytest.raises(UserError, match="are kept"):
            judge.verdicts(queries, responses)
    kept = len(list(tmp_path.glob("*/*.json")))
    assert 30 <= kept == len(proxy.asked) < 60
    with pytest.raises(UserError, match="does not answer"):  # while it is down
        judge.verdicts(queries, responses)
    proxy.faults = lambda question: None
    with serving(proxy, int(address.split(":")[2].split("/")[0])):
        verdicts = open_judge(address, model, tmp_path, max_concurrency=2).verdicts(queries, responses)
        assert [one.verdict for one in verdicts] == ["complied"] * 60
        assert Counter(proxy.asked) == Counter(dict.fromkeys(proxy.asked, 1))
        assert len(proxy.asked) == 60
    assert open_judge(address, model, tmp_path).verdicts(queries, responses) == verdicts  # needs no server any more


def test_a_spoilt_file_of_the_cache_is_asked_again(upstream, tmp_path):
    url, model = upstream
    proxy = FaultProxy(url)
    with serving(proxy) as address:
        judge = open_judge(address, model, tmp_path)
        before = judge.verdicts(*rows(2))
        (spoilt, _) = sorted(tmp_path.glob("*/*.json"))
        spoilt.write_text('{"unsafe": ')
        assert judge.verdicts(*rows(2)) == before
    assert len(proxy.asked) == 3


@pytest.mark.parametrize("change", ["url", "model", "version", "query"])
def test_the_cache_knows_what_an_answer_depends_on(change, tmp_path):
    endpoint = llm_client.Endpoint("http://127.0.0.1:1/v1", "judge")
    judge = RemoteJudge(presets.find("jailbreakbench"), endpoint, AnswerCache(tmp_path), 1)
    other = RemoteJudge(judge.preset, endpoint, judge.cache, 1)
    query = "q"
    match change:
        case "url":
            other.endpoint = llm_client.Endpoint("http://127.0.0.1:2/v1", "judge")
        case "model":
            other.endpoint = llm_client.Endpoint("http://127.0.0.1:1/v1", "judge 2")
        case "version":
            other.preset = replace(judge.preset, version="0")
        case "query":
            query = "q 2"
    assert judge._key(judge.messages("q", "r")) == judge._key(judge.messages("q", "r"))
    assert other._key(other.messages(query, "r")) != judge._key(judge.messages("q", "r"))


@pytest.mark.parametrize("fault", [None, "401", "500", "drop", "no completion", "400", "hang"])
def test_the_key_goes_to_the_server_and_nowhere_else(fault, upstream, tmp_path, monkeypatch, caplog, capfd):
    url, model = upstream
    monkeypatch.setenv("JUDGE_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    proxy, told = FaultProxy(url, lambda question: fault), ""
    with serving(proxy) as address:
        judge = open_judge(address, model, tmp_path, key_env="JUDGE_KEY", timeout_s=0.5 if fault == "hang" else 20)
        try:
            told = repr(judge.verdicts(*rows(2)))
        except UserError as error:
            told = "".join(traceback.TracebackException.from_exception(error, capture_locals=False).format())
    assert {headers["Authorization"] for headers in proxy.headers} == {f"Bearer {KEY}"}
    written = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    names = "".join(map(str, tmp_path.rglob("*")))
    assert told and KEY not in told + written + names + caplog.text + "".join(capfd.readouterr()) + repr(judge)


def test_no_key_that_cannot_be_used_and_no_proxy_of_the_environment(upstream, tmp_path, monkeypatch):
    url, model = upstream
    with pytest.raises(UserError, match="JUDGE_KEY, which is not set"):
        open_judge(url, model, tmp_path, key_env="JUDGE_KEY")
    monkeypatch.setenv("JUDGE_KEY", f"{KEY}\nX: y")
    with pytest.raises(UserError, match="characters that no key has") as caught:
        open_judge(url, model, tmp_path, key_env="JUDGE_KEY")
    assert KEY not in str(caught.value)
    elsewhere = FaultProxy(url)
    with serving(elsewhere) as address:
        monkeypatch.setenv("HTTP_PROXY", address.removesuffix("/v1"))
        assert open_judge(url, model, tmp_path).verdicts(*rows(1))[0].verdict == "complied"
    assert elsewhere.n_requests == 0


@pytest.mark.parametrize(
    "url", ["ftp://host/v1", "host:80", "https://user:word@host/v1", "https://host/v1?key=a", "http://"]
)
def test_only_plain_addresses_are_taken(url, tmp_path):
    with pytest.raises(UserError, match="url of a judge") as caught:
        open_judge(url, "judge", tmp_path)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://h:8000", "http://h:8000/v1", "http://h:8000/v1/", "http://h:8000/v1/chat/completions"]
)
def test_the_address_of_chats_follows_from_the_url(url):
    assert llm_client.chat_address(url) == "http://h:8000/v1/chat/completions"


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"preset": "wildguard"}, "use kind llm-local"),
        ({"preset": "none"}, "preset 'none'"),
        ({"max_concurrency": 0}, "must be positive"),
        ({"timeout_s": 0}, "must be positive"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused_at_once(declared, message, tmp_path):
    with pytest.raises(UserError, match=message):
        open_judge("http://127.0.0.1:1/v1", "judge", tmp_path, **declared)


def test_a_server_asks_for_patience_in_seconds_or_by_the_clock():
    def wait(value):
        return llm_client.retry_after(httpx2.Response(429, headers={"Retry-After": value}))

    assert (wait("7"), wait("soon"), wait("-3"), wait("999999")) == (7, 0, 0, llm_client.LONGEST_RETRY_AFTER_S)
    assert 20 < wait(format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)) <= 30
    assert wait(format_datetime(datetime.now(UTC) - timedelta(seconds=30), usegmt=True)) == 0


def test_probabilities_that_a_server_tells_mean_what_they_mean_locally(tiny, tmp_path):
    local = LocalJudge(presets.find("jailbreakbench"), *tiny)
    with serving(llm_servers.ProbabilityServer(*tiny)) as url:
        remote = open_judge(url, "tiny", tmp_path).verdicts(QUERIES, RESPONSES)
    expected = local.verdicts(QUERIES, RESPONSES)
    assert [one.verdict for one in remote] == [one.verdict for one in expected]
    assert [one.score for one in remote] == pytest.approx([one.score for one in expected], abs=1e-4)
    assert "unscored" not in {one.verdict for one in remote} and len({one.score for one in remote}) == 4


def test_probabilities_on_other_words_leave_a_response_unscored(tiny, tmp_path):
    with serving(llm_servers.ProbabilityServer(*tiny)) as url:
        (verdict,) = open_judge(url, "tiny", tmp_path, preset="jailbreakbench-refusal").verdicts(*rows(1))
    assert verdict.verdict == "unscored" and "of the probability is on no/yes" in verdict.reason


def test_hostile_responses_get_a_verdict_or_none_and_never_a_crash(tiny, tmp_path):
    responses = hostile.responses()
    preset = replace(presets.find("jailbreakbench"), mass=0.0)
    with serving(llm_servers.ProbabilityServer(*tiny, longest=300)) as url:
        remote = RemoteJudge(preset, llm_client.Endpoint(url, "tiny"), AnswerCache(tmp_path), 4)
        verdicts = remote.verdicts([QUERIES[0]] * len(responses), responses)
    assert len(verdicts) == 200
    assert {one.verdict for one in verdicts} <= {"complied", "refused", "unscored"}
    for query, response in zip([QUERIES[0]] * 200, responses, strict=True):
        (message,) = remote.messages(query, response)
        assert message["content"].count("<END RESPONSE>") == 1 and "<|" not in message["content"]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        *[("unsafe", "complied"), (" Safe.\n", "refused"), ("**safe**", "refused"), ("", "unscored")],
        *[("unsafe?", "unscored"), ("The response is unsafe", "unscored"), ("safe unsafe", "unscored")],
        *[("safe\nS1", "unscored"), ("saf", "unscored")],
    ],
)
def test_text_is_read_strictly(text, verdict, tmp_path):
    remote = RemoteJudge(presets.find("jailbreakbench"), llm_client.Endpoint("http://h", "m"), AnswerCache(tmp_path), 1)
    assert remote._verdict(remote.answers(llm_client.Reply(text))).verdict == verdict


def test_llama_guard_names_categories_on_a_second_line(tmp_path):
    guard = presets.find("llama-guard-3-8b")
    remote = RemoteJudge(guard, llm_client.Endpoint("http://h", "m"), AnswerCache(tmp_path), 1)
    assert remote._verdict(remote.answers(llm_client.Reply("\n\nunsafe\nS1"))).verdict == "complied"
    assert [one["role"] for one in remote.messages("q", "r")] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("token", "word"),
    [
        ("safe", "safe"),
        (" Unsafe", "unsafe"),
        ("uns", "unsafe"),
        ("Un", None),
        ("Uns", None),
        ("u", None),
        ("", None),
        ("sa", "safe"),
        ("safely", None),
    ],
)
def test_a_first_token_counts_for_the_one_answer_that_it_begins(token, word):
    assert llm_remote.meant(token, ["unsafe", "safe"]) == word
