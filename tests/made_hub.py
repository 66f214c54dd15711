"""A hub on this machine: the part of huggingface.co's API that kerbseg asks for, in memory, bounded, on loopback."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_a-token-that-is-none"
MOST_BODY = 2**26  # bytes
MOST_REQUESTS = 400
LARGE = (".safetensors", ".onnx", ".bin")  # what git-lfs holds
LICENSES = {"apache-2.0", "cc-by-4.0", "other", "unknown"}


@dataclass
class Repository:
    """Files by commit, commits by branch."""

    private: bool = False
    gated: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def write(self, branch: str, files: dict[str, bytes]) -> str:
        """A new commit that holds these files and no other."""
        told = json.dumps([len(self.commits), sorted(files)])
        commit = hashlib.sha1(told.encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.branches[branch] = commit
        return commit

    def files(self, branch: str = "main") -> dict[str, bytes]:
        """What a branch holds."""
        return self.commits[self.branches[branch]]


class Hub:
    """What the server holds, what it was asked, and what is wrong with it."""

    def __init__(self, address: str = "") -> None:
        self.address = address
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.tokens: set[str | None] = set()
        self.agents: set[str] = set()
        self.status: int | None = None  # answered to everything
        self.meanwhile: dict[str, bytes] | None = None  # somebody else's commit, just before the next one
        self.endless: str | None = None  # a file that goes on and on
        self.readable = True  # False: answers as a page for people

    def make(self, name: str, files: dict[str, bytes] | None = None, **kind: bool) -> Repository:
        """A new repository; the hub itself writes `.gitattributes`."""
        self.repositories[name] = made = Repository(**kind)
        made.write("main", {".gitattributes": b"", **(files or {})})
        return made


class Refusal(Exception):
    """An error of the hub: its status, its code, and its words."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


@contextmanager
def serving():
    """A hub that runs within."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *words: object) -> None:
        pass

    def _answer(self) -> None:
        hub, path = self.hub, urlsplit(self.path).path
        hub.requests.append(f"{self.command} {path}")
        self.token = (self.headers["authorization"] or "").removeprefix("Bearer ") or None
        hub.tokens.add(self.token)
        hub.agents.add(self.headers["user-agent"])
        length = int(self.headers["content-length"] or 0)
        assert length <= MOST_BODY
        body = self.rfile.read(length)
        try:
            if len(hub.requests) > MOST_REQUESTS:
                raise Refusal(429)
            if hub.status is not None:
                raise Refusal(hub.status)
            if not hub.readable:
                return self._send(200, b"<html>Please log in</html>", {"content-type": "text/html"})
            for method, pattern, answer in _ROUTES:
                if method == self.command and (match := re.fullmatch(pattern, path)):
                    return answer(self, *map(unquote, match.groups()), *([body] if body else []))
            raise Refusal(404, "EntryNotFound")
        except Refusal as refusal:
            headers = {"X-Error-Code": refusal.code} if refusal.code else {}
            words = {"error": str(refusal), "errors": [{"message": str(refusal)}]}
            self._json(words, refusal.status, headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), {"content-type": "application/json", **(headers or {})})

    def _repository(self, name: str) -> Repository:
        found = self.hub.repositories.get(name)
        if self.token not in (None, TOKEN):
            raise Refusal(401, message="Invalid credentials in Authorization header")
        if found is None or (found.private and self.token != TOKEN):
            raise Refusal(404 if self.token else 401, "RepoNotFound")
        return found

    def _may_write(self) -> None:
        if self.token != TOKEN:
            raise Refusal(401, message="Invalid username or password.")

    def _files(self, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        """A revision's commit, and what it holds."""
        found = self._repository(name)
        commit = found.branches.get(revision, revision)
        if commit not in found.commits:
            raise Refusal(404, "RevisionNotFound")
        return commit, found.commits[commit]

    # ---- what is asked

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        self._may_write()
        if asked["organization"] != "me":
            raise Refusal(403, message="You don't have the rights to create a model under this namespace")
        name = f"me/{asked['name']}"
        if name in self.hub.repositories:
            raise Refusal(409)
        self.hub.make(name, private=asked.get("visibility") == "private")
        self._json({"url": f"{self.hub.address}/{name}"})

    def _branch(self, name: str, branch: str, body: bytes) -> None:
        self._may_write()
        found = self._repository(name)
        found.branches[branch] = found.branches["main"]
        self._json({})

    def _info(self, name: str, revision: str = "main") -> None:
        commit, files = self._files(name, revision)
        siblings = [{"rfilename": each} for each in files]
        private = self.hub.repositories[name].private
        self._json({"id": name, "sha": commit, "private": private, "siblings": siblings, "tags": []})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        commit, files = self._files(name, revision)
        if self.hub.repositories[name].gated and self.token != TOKEN:
            raise Refusal(401, "GatedRepo")
        if path not in files:
            raise Refusal(404, "EntryNotFound")
        content = files[path]
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
        if path == self.hub.endless and self.command == "GET":
            self._pour(headers)
        else:
            self._send(200, content, headers)

    def _pour(self, headers: dict[str, str]) -> None:
        """Bytes until nobody takes them, or 64 MiB."""
        self.send_response(200)
        for name, value in {"transfer-encoding": "chunked", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        piece = b"100000\r\n" + bytes(2**20) + b"\r\n"
        try:
            for _ in range(64):
                self.wfile.write(piece)
        except OSError:  # they have hung up
            pass

    def _validate(self, body: bytes) -> None:
        text = json.loads(body)["content"]
        matter = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
        if matter is None or yaml.safe_load(matter[1]).get("license") not in LICENSES:
            raise Refusal(400, message=f'"license" must be one of [{", ".join(sorted(LICENSES))}]')
        self._json({"errors": [], "warnings": []})

    def _preupload(self, name: str, revision: str, body: bytes) -> None:
        self._may_write()
        _, files = self._files(name, revision)
        answers = [
            {
                "path": each["path"],
                "uploadMode": "lfs" if each["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
                "oid": _oid(each["path"], files.get(each["path"])),
            }
            for each in json.loads(body)["files"]
        ]
        self._json({"files": answers})

    def _batch(self, name: str, body: bytes) -> None:
        self._may_write()
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.hub.address}/large/{each['oid']}", "header": {}}}}
            for each in json.loads(body)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _put(self, oid: str, body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise Refusal(400)
        self.hub.large[oid] = body
        self._json({})

    def _commit(self, name: str, revision: str, body: bytes) -> None:
        self._may_write()
        found = self._repository(name)
        if self.hub.meanwhile is not None:
            found.write(revision, self.hub.meanwhile)
            self.hub.meanwhile = None
        parent, before = self._files(name, revision)
        files = dict(before)
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            match entry["key"]:
                case "header":
                    if value.get("parentCommit", parent) != parent:
                        raise Refusal(412, message="A commit has happened since. Please refresh and try again.")
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.hub.large[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        commit = found.write(revision, files)
        self._json({"commitUrl": f"{self.hub.address}/{name}/commit/{commit}", "commitOid": commit})


def _oid(path: str, content: bytes | None) -> str | None:
    """By which the client knows that a file has not changed."""
    if content is None:
        return None
    if path.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


_REPO = r"([^/]+/[^/]+)"
_ROUTES = (
    ("POST", "/api/repos/create", _Handler._create),
    ("POST", "/api/validate-yaml", _Handler._validate),
    ("POST", f"/api/models/{_REPO}/branch/([^/]+)", _Handler._branch),
    ("POST", f"/api/models/{_REPO}/preupload/([^/]+)", _Handler._preupload),
    ("POST", f"/api/models/{_REPO}/commit/([^/]+)", _Handler._commit),
    ("GET", f"/api/models/{_REPO}", _Handler._info),
    ("GET", f"/api/models/{_REPO}/revision/([^/]+)", _Handler._info),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler._batch),
    ("PUT", "/large/([0-9a-f]+)", _Handler._put),
    ("HEAD", f"/{_REPO}/resolve/([^/]+)/(.+)", _Handler._resolve),
    ("GET", f"/{_REPO}/resolve/([^/]+)/(.+)", _Handler._resolve),
)
