"""A run's way to the hub: a server on this machine speaks the part of the Hub's HTTP API in use."""

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from plainloop.metrics.decision_rule import DECISION_FILE

TOKEN = "hf_token_of_a_test"
SECRETS = ("predictions", "report.html", "history", "checkpoints", ".lock", "run.yaml", "metrics")


class Hub(BaseHTTPRequestHandler):
    """Takes a repository and one commit of files that are sent as they are."""

    def do_GET(self):
        self.answer(200, {"name": "someone", "type": "user"}, known=self.path == "/api/whoami-v2")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)
        if self.path.endswith("/commit/main"):
            if self.server.fails:
                return self.answer(403, {"error": "no room"})
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.server.files[value["path"]] = base64.b64decode(value["content"])
            address = f"{self.server.address}/someone/run/commit/1"
            return self.answer(200, {"commitUrl": address, "commitOid": "1" * 40})
        sent = json.loads(body)
        if self.path == "/api/repos/create":
            self.server.created.append(sent)
            return self.answer(200, {"url": f"{self.server.address}/someone/run"})
        if self.path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        modes = [
            {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
            for file in sent.get("files", [])
        ]
        return self.answer(200, {"files": modes}, known=self.path.endswith("/preupload/main"))

    def answer(self, code, content, *, known=True):
        known = known and self.headers.get("Authorization") == f"Bearer {TOKEN}"
        self.send_response(code if known else 401)
        body = json.dumps(content if known else {"error": "Invalid credentials"}).encode()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.address = f"http://127.0.0.1:{server.server_port}"
    server.paths, server.created, server.files, server.fails = [], [], {}, False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def words(tiny_model, tiny_data):
    short = ["--max-steps", "1", "--output-dir", "run", "--push-to-hub"]
    paths = ["--model", tiny_model, "--data-dir", tiny_data]
    return [str(word) for word in ["-m", "plainloop", "train", "--task", "demo", *paths, *short]]


@pytest.fixture
def environment(hub, tmp_path_factory):
    return {
        "HF_ENDPOINT": hub.address,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path_factory.mktemp("home")),
        "HF_HUB_OFFLINE": None,
    }


@pytest.fixture
def train(words, environment, run_command):
    """Run a short training that uploads, with more words and another environment."""

    def train(*more, expect=0, **changed):
        kept = [word for word in words if f"--no-{word[2:]}" not in more]
        return run_command(*kept, *more, expect=expect, **(environment | changed))

    return train


@pytest.mark.slow
def test_model_tokenizer_and_card_are_uploaded_and_nothing_that_holds_the_data(
    train, hub, tmp_path
):
    finished = train("--hub-private-repo", "--calibrate")
    assert finished.stderr == ""
    assert f"Uploaded       {hub.address}/someone/run" in finished.stdout
    [created] = hub.created
    assert created["name"] == "run"
    assert created.get("visibility") == "private" or created.get("private") is True
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} | {
        DECISION_FILE
    } <= hub.files.keys()
    assert [name for name in hub.files if name.startswith(SECRETS)] == []
    assert not any("/" in name for name in hub.files)
    for name, content in hub.files.items():
        assert content == (tmp_path / "run" / name).read_bytes()
    rows = (tmp_path / "run" / "report.html").read_bytes()
    assert b"The nurse" in rows or b"The cat" in rows
    texts = hub.files["README.md"] + hub.files["config.json"]
    named = re.findall(rb"[\w.-]+\.(?:json|jsonl|yaml|html|parquet|safetensors)\b", texts)
    assert b"decision_rule.json" in named
    assert {name.decode() for name in named} <= hub.files.keys(), "the card names what is there"
    assert b"The nurse" not in texts
    assert b"The cat" not in texts
    assert (tmp_path / "run" / "run.yaml").read_text("utf-8").count("hub") == 0


@pytest.mark.slow
def test_a_failed_upload_leaves_the_run_whole_and_says_how_to_repeat_it(train, hub, tmp_path):
    hub.fails = True
    finished = train("--hub-model-id", "other/name", expect=4)
    [said] = finished.stderr.splitlines()
    assert said.startswith("error: --push-to-hub other/name: not uploaded: ")
    assert "the run is whole; to try again: hf upload other/name run . --include README.md" in said
    assert (tmp_path / "run" / "README.md").exists()
    assert hub.files == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "more", "said"),
    [
        ({"HF_HUB_OFFLINE": "1"}, [], "--push-to-hub: HF_HUB_OFFLINE is set; "),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, [], "--push-to-hub: the hub cannot be reached: "),
        ({"HF_TOKEN": None}, [], "--push-to-hub: no token for the hub; hf auth login"),
        ({"HF_TOKEN": "hf_wrong"}, [], "--push-to-hub: the hub does not say who uploads: "),
        ({}, ["--hub-model-id", "a/b/c"], "--hub-model-id: no name on the hub: "),
        ({}, ["--seeds", "2"], "--push-to-hub: uploads one run, and not several seeds; "),
        ({}, ["--no-push-to-hub", "--hub-model-id", "a"], "--hub-model-id: nothing is uploaded; "),
    ],
)
def test_what_cannot_be_uploaded_is_a_line_before_the_training(
    train, changed, more, said, tmp_path
):
    finished = train(*more, expect=2, **changed)
    [line] = finished.stderr.splitlines()
    assert line.startswith(f"error: {said}")
    assert list(tmp_path.iterdir()) == []
