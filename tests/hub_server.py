"""A server on this machine that speaks the part of the Hub's HTTP API in use."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

TOKEN = "hf_token_of_a_test"
COMMIT = "1" * 40


def blob_id(content):
    """As git names a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """Has one repository; takes commits of files that are sent as they are, and gives them back."""

    def do_GET(self):
        path = urlsplit(self.path).path
        if path == "/api/whoami-v2":
            return self.answer(200, {"name": "someone", "type": "user"})
        name, files = self.server.name, self.server.files
        self.server.asked.append(path)
        if path.startswith(f"/api/models/{name}/tree/"):
            listed = [
                {"type": "file", "path": path, "size": len(content), "oid": blob_id(content)}
                for path, content in files.items()
            ]
            return self.answer(200, listed)
        if path.startswith(f"/api/models/{name}/revision/") or path == f"/api/models/{name}":
            siblings = [{"rfilename": path} for path in files]
            return self.answer(200, {"id": name, "sha": COMMIT, "siblings": siblings})
        if path.startswith(f"/{name}/resolve/"):
            file = path.split("/", 5)[5]
            if file in files:
                return self.send(200, files[file], {"ETag": f'"{blob_id(files[file])}"'})
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
        return self.send(404, b"", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET  # noqa: N815 - the base class asks for it

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)
        if self.path.endswith("/commit/main"):
            if self.server.fails:
                return self.answer(403, {"error": "no room"})
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "deletedFile":
                    del self.server.files[line["value"]["path"]]
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
        body = json.dumps(content if known else {"error": "Invalid credentials"}).encode()
        self.send(code if known else 401, body, {"Content-Type": "application/json"})

    def send(self, code, body, headers):
        self.send_response(code)
        headers = {"X-Repo-Commit": COMMIT, "Content-Length": len(body), **headers}
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *words):
        pass


@contextmanager
def serving():
    """Yield the server, with all that it was given and asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.address = f"http://127.0.0.1:{server.server_port}"
    server.paths, server.created, server.files, server.fails = [], [], {}, False
    server.name, server.asked = "someone/run", []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
