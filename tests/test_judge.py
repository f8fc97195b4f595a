"""A judge: a function, or a server on this machine that speaks as OpenAI's endpoint does, well or badly."""

import json
import logging
import math
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import saturation as st
from saturation.quality import Judge, evaluate, rated, summarise
from saturation.quality.judge_endpoint import judged, rating
from saturation.tasks import Example, Task, bundled

EXAMPLES = [Example(str(i), prompt=f"User: Question {i}?\nAssistant:") for i in range(4)]


class Server(ThreadingHTTPServer):
    """Answers every request with the next of its answers: a text, an HTTP status, or seconds to wait."""

    daemon_threads = True

    def __init__(self, *answers):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.asked = list(answers), []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["Authorization"], body))
        answer = self.server.answers.pop(0) if self.server.answers else "Rating: 5"
        if isinstance(answer, float):
            time.sleep(answer)
        status = answer if isinstance(answer, int) else 200
        message = {"role": "assistant", "content": answer if isinstance(answer, str) else "Rating: 5"}
        reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": []}
        reply["choices"] = [{"index": 0, "finish_reason": "stop", "message": message}]
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(reply).encode())
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client has given up, as it should

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Start a server with its answers; ended afterwards."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("KEY_OF_THE_TEST", "secret")
    servers = []

    def start(*answers):
        server = Server(*answers)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def judge_at(server, **options) -> Judge:
    return Judge("m", base_url=server.url, key="KEY_OF_THE_TEST", **{"retries": 0, "timeout": 5.0, **options})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Clear and right.\nRating: 8", 8),
        ("rating: 7.5", 7.5),
        ("**Rating:** [[9]]", 9),
        ("A first Rating: 2, on reflection\nRating: 6", 6),
        ("Rating (1-10): 8", 8),
        ("**Rating (out of 10):** 6", 6),
        ("Rating (9)", 9),
        ("Rating (9/10)", 9),
        ("Rating: 8 - 2 points for style", 8),
        ("Rating: 7/10", 7),
        ("Rating: 7,5", 7.5),
        ("Rating: 10, without doubt.", 10),
    ],
)
def test_ratings_are_read(text, value):
    assert rating(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("", "I like it.", "Rating: 11", "Rating: 0", "Rating: -5", "8", "Rating: 1 to 10", "Rating: 1-10"),
        *("Rating (1-10): eight", "Rating (1 - 10): eight", "Rating (from 1 to 10):"),
        "Rating: 0,5",
    ],
)
def test_nonsense_is_no_rating(text):
    with pytest.raises(ValueError, match=r"^expected a line 'Rating: N' with N from 1 to 10, got "):
        rating(text)


def test_an_endpoint_is_asked_with_question_answer_and_key(serve):
    server = serve("Good.\nRating: 8")
    example = Example("1", prompt="User: Who?\nAssistant:", references=("Mara.",))
    assert judge_at(server)(example, "It was Mara.") == 8
    ((path, key, body),) = server.asked
    assert (path, key, body["model"], body["temperature"]) == ("/v1/chat/completions", "Bearer secret", "m", 0)
    (message,) = body["messages"]
    assert all(part in message["content"] for part in ("User: Who?", "It was Mara.", "known to be right", "Mara."))
    server.answers = ["Rating: 3"]
    judge_at(server, temperature=None, prompt="{asked}|{answer}")(Example("2", prompt="Q"), "A")
    assert server.asked[1][2]["messages"][0]["content"] == "Q|A" and "temperature" not in server.asked[1][2]


def test_failures_mark_their_rows_and_the_others_go_on(serve, caplog):
    server = serve("Rating: 8", "No idea.", 500, 3.0)
    with caplog.at_level(logging.WARNING):
        table = judged(judge_at(server, timeout=1.5), EXAMPLES, ["a", "b", "c", "d"])
    assert table["judge"].tolist()[0] == 8 and table["judge"].isna().tolist() == [False, True, True, True]
    errors = table["judge_error"].tolist()
    assert errors[0] == ""
    assert errors[1] == "ValueError: expected a line 'Rating: N' with N from 1 to 10, got 'No idea.'"
    assert errors[2].startswith("InternalServerError: ") and errors[3].startswith("APITimeoutError: ")
    assert "the judge gave no rating for 3 of 4 answers; the first: ValueError: expected a line" in caplog.text


def test_the_client_asks_again_after_a_failure_of_the_server(serve):
    server = serve(500, "Rating: 4")
    assert judge_at(server, retries=1)(EXAMPLES[0], "a") == 4 and len(server.asked) == 2


def test_a_key_must_be_there(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    sentence = (
        "expected the judge's key in the environment variable OPENAI_API_KEY, which is empty; set it, name another "
        "with key=, or give key='' for an endpoint that asks for none"
    )
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        Judge("m")
    assert "secret" not in repr(Judge("m", key=""))


def test_numbers_of_numpy_are_ratings_and_truths_are_not():
    given = {"a": np.float32(7.5), "b": np.int64(7), "c": True, "d": np.bool_(True)}
    table = judged(lambda example, answer: given[answer], EXAMPLES, list("abcd"))
    assert table["judge"].tolist()[:2] == [7.5, 7] and table["judge"].isna().tolist() == [False, False, True, True]


def test_any_function_is_a_judge():
    def by_length(example, answer):
        if answer == "d":
            raise RuntimeError("no opinion")
        return {"a": 1, "b": None, "c": "7"}[answer]

    table = judged(by_length, EXAMPLES, ["a", "b", "c", "d"])
    assert table["judge"].tolist()[0] == 1 and math.isnan(table["judge"][1])
    assert table["judge_error"].tolist() == [
        "",
        "expected a number from the judge, got None",
        "expected a number from the judge, got '7'",
        "RuntimeError: no opinion",
    ]


def test_a_dead_judge_is_given_up_but_not_one_that_talks_nonsense():
    asked = []

    def judge(kind):
        def failing(example, answer):
            asked.append(answer)
            raise kind("down")

        return failing

    examples = [Example(str(i)) for i in range(8)]
    table = judged(judge(TimeoutError), examples, list("abcdefgh"))
    assert len(asked) == 5
    assert (
        table["judge_error"].tolist()
        == ["TimeoutError: down"] * 5 + ["not asked, since the judge failed 5 times in a row"] * 3
    )
    judged(judge(ValueError), examples, list("abcdefgh"))
    assert len(asked) == 5 + 8


def test_an_interrupt_is_no_failure_of_the_judge():
    def stopped(example, answer):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judged(stopped, EXAMPLES, list("abcd"))


def test_a_judge_sees_the_conversation_up_to_the_turn_and_its_reference():
    seen = []

    def judge(example, answer):
        seen.append((example.prompt, example.references, answer))
        return 6.0

    talk = Example("1", "chat", "Hello.", turns=("And now?",), replies=("Hi.", "Later."))
    task = Task("talk", "conversation", (talk,), max_new_tokens=4)
    table = evaluate(*st.load("demo"), task, judge=judge, chat=False, progress=False)
    first, second = table["answer"]
    assert seen == [
        ("User: Hello.\nAssistant:", ("Hi.",), first),
        (f"User: Hello.\nAssistant: {first}\nUser: And now?\nAssistant:", ("Later.",), second),
    ]
    assert table["judge"].tolist() == [6, 6] and table["judge_error"].tolist() == ["", ""]
    assert "judge" in summarise(table)["score"].tolist()


def test_exact_answers_need_no_judge():
    task = bundled("factoid").head(2)
    table = evaluate(*st.load("demo"), task, judge=lambda example, answer: 1 / 0, progress=False)
    assert "judge" not in table and "judge_error" not in table
    summaries = bundled("summaries").head(1)
    rows = evaluate(*st.load("demo"), summaries, progress=False)
    assert "judge" not in rows
    assert rated(summaries, rows, lambda example, answer: len(example.references))["judge"].tolist() == [1]
