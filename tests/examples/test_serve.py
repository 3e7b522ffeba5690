"""examples/serve.py: a real server process that answers real requests."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress

import pytest
from conftest import ROOT, python, write_pairs
from tiny import run_tiny

from plainloop.predict.loaded_run import load_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tiny_model, tiny_data, tmp_path_factory):
    """A run on pairs, its server process and address."""
    folder = tmp_path_factory.mktemp("served") / "run"
    run_tiny(folder, model=str(tiny_model), data_dir=tiny_data, max_steps=2)
    process, address = start(folder)
    yield load_run(folder), address
    stop(process)


def start(folder):
    process = subprocess.Popen(
        [python(), ROOT / "examples" / "serve.py", folder, "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    for line in process.stderr:
        if found := re.search(r"running on (http://[\d.:]+)", line):
            return process, found[1]
    raise AssertionError(f"it ended with {process.wait()}")


def stop(process):
    process.send_signal(signal.SIGTERM)
    process.stderr.read()
    process.stderr.close()
    return process.wait(timeout=20)


def ask(address, body, method="POST", path="/predict"):
    """The status and the JSON of an answer, whatever it is."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


PAIR = ["The cat sees the car", "The cat likes a tree"]


def test_it_answers_what_the_run_predicts(served):
    run, address = served
    rows = [PAIR, ["", "A dog"], ["日本 \x00", "not " * 1000]]
    status, answer = ask(address, {"texts": rows})
    assert status == 200
    expected = run.predict([tuple(row) for row in rows])
    assert [row["label"] for row in answer["predictions"]] == [row["label"] for row in expected]
    for ours, theirs in zip(answer["predictions"], expected, strict=True):
        assert ours["scores"] == pytest.approx(theirs["scores"], abs=1e-6)
    assert ask(address, None, "GET", "/health") == (
        200,
        {"status": "ok", "labels": list(run.task.label_names)},
    )


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 422, "body: Invalid JSON"),
        (b"\xff\xfe", 422, "body: Invalid JSON"),
        (b'{"texts": [["\\ud800", "a"]]}', 422, "body: Invalid JSON"),
        ([PAIR], 422, "body: "),
        ({"text": [PAIR]}, 422, "texts: Field required"),
        ({"texts": [PAIR], "model": "x"}, 422, "model: Extra inputs"),
        ({"texts": []}, 422, "texts: List should have at least 1 item"),
        ({"texts": [PAIR] * 65}, 422, "texts: List should have at most 64 items"),
        ({"texts": ["one text"]}, 422, "texts.0: "),
        ({"texts": [PAIR, ["a", 5]]}, 422, "texts.1.1: Input should be a valid string"),
        ({"texts": [PAIR, ["a", None]]}, 422, "texts.1.1: Input should be a valid string"),
        ({"texts": [["a", "x" * 10_001]]}, 422, "texts.0.1: String should have at most 10000"),
        (b" " * 1_000_001, 413, "more than 1000000 bytes"),
    ],
    ids=str,
)
def test_a_bad_request_is_refused_with_json_that_says_why(served, body, status, said):
    code, answer = ask(served[1], body)
    assert code == status
    assert list(answer) == ["error"]
    assert answer["error"].startswith(said)
    assert "x" * 100 not in answer["error"]  # what was sent is not sent back


def test_another_path_or_method_is_refused_with_json(served):
    address = served[1]
    assert ask(address, None, "GET") == (405, {"error": "Method Not Allowed"})
    assert ask(address, None, "GET", "/model.safetensors") == (404, {"error": "Not Found"})


def test_a_body_that_never_ends_is_given_up_while_others_are_answered(served):
    _, address = served
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
        assert ask(address, {"texts": [PAIR]})[0] == 200
        slow.settimeout(60)
        assert b"408" in slow.recv(1000)


@pytest.mark.nightly
def test_connections_that_never_finish_a_header_lock_out_nobody_for_long(served):
    _, address = served
    host, port = address.removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(100)]
    try:
        for number, connection in enumerate(slow):  # some send nothing, some a part of a header
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\n" if number % 2 else b"")
        deadline = time.monotonic() + 60
        while True:
            time.sleep(1)
            for connection in slow[1::2]:  # it trickles in
                with suppress(OSError):
                    connection.sendall(b"X: y\r\n")
            with suppress(OSError, ValueError):  # 503 is no JSON
                if ask(address, {"texts": [PAIR]})[0] == 200:
                    break
            assert time.monotonic() < deadline
        slow[0].settimeout(20)
        assert slow[0].recv(1) == b"", "it was closed"
    finally:
        for connection in slow:
            connection.close()


def test_a_connection_is_kept_for_the_next_request(served):
    host, port = served[1].removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    for _ in range(3):
        connection.request("GET", "/health")
        assert json.load(connection.getresponse())["status"] == "ok"
        time.sleep(0.5)
    connection.close()


def test_a_run_on_single_texts_takes_texts_and_sigterm_ends_the_server(
    tiny_model, tmp_path, run_command
):
    file = tmp_path / "rows.tsv"
    write_pairs(file, 30, seed=5)
    run_tiny(
        tmp_path / "run",
        task=None,
        train_file=(str(file),),
        text_column=("sentence1",),
        model=str(tiny_model),
        max_steps=1,
    )
    process, address = start(tmp_path / "run")
    status, answer = ask(address, {"texts": ["The cat sees the car"]})
    assert (status, len(answer["predictions"])) == (200, 1)
    assert ask(address, {"texts": [PAIR]})[0] == 422
    assert stop(process) in (0, -signal.SIGTERM)


def test_what_is_no_run_ends_in_one_line(run_command, tmp_path):
    said = run_command(ROOT / "examples" / "serve.py", "nothing", expect=2)
    assert said.stderr == "error: nothing: no such folder; give the folder of a run\n"
