"""A model hub in memory. It serves the routes of `huggingface_hub`, and tests can add faults."""

import asyncio
import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from typing import Any

import uvicorn
import yaml
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

GOOD_TOKEN = "hf_good0000000000000000000000000000000"
READ_TOKEN = "hf_read0000000000000000000000000000000"
_LFS_FROM = 2_000
"""LFS stores files from this size in bytes on, and all safetensors files."""


@dataclass
class Repository:
    """A repository: a list of commits, each with the content of every file by path."""

    private: bool
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{}])

    @staticmethod
    def name_of(index: int) -> str:
        """Return the hash of a commit."""
        return hashlib.sha1(str(index).encode()).hexdigest()

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return the hash and the files of the commit that a branch or a hash names."""
        if revision == "main":
            return self.name_of(len(self.commits) - 1), self.commits[-1]
        for index, tree in enumerate(self.commits):
            if self.name_of(index) == revision:
                return revision, tree
        return None


class FakeHub:
    """State of the hub, and the requests it received."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        """Method, path and Range header of each request."""
        self.failures: list[tuple[str, int, int]] = []
        """Requests that fail, each as (part of the path, status, number of times)."""
        self.cut: dict[str, int] = {}
        """Number of bytes after which the next download of a file is cut, by path."""
        self.sent: dict[str, int] = {}
        """Number of downloaded bytes, by path."""
        self.received = 0
        """Number of uploaded bytes of LFS files."""
        self.url = ""

    def tree(self, name: str) -> dict[str, bytes]:
        """Return the files of the newest commit."""
        return self.repositories[name].commits[-1]

    def failing(self, path: str) -> int | None:
        """Return the status with which a request must fail, if any."""
        for index, (part, status, times) in enumerate(self.failures):
            if part in path and times > 0:
                self.failures[index] = (part, status, times - 1)
                return status
        return None


def _error(status: int, code: str, message: str) -> Response:
    headers = {"X-Error-Code": code, "X-Error-Message": message}
    return JSONResponse({"error": message}, status, headers=headers)


def _token(request: Request) -> str | None:
    return request.headers.get("authorization", "").removeprefix("Bearer ") or None


def _refused(request: Request, *, write: bool = False) -> Response | None:
    token = _token(request)
    if token not in (None, GOOD_TOKEN, READ_TOKEN):
        return JSONResponse({"error": "Invalid username or password."}, 401)
    if write and token != GOOD_TOKEN:
        return JSONResponse({"error": "You need write access."}, 403 if token else 401)
    return None


def _found(request: Request, name: str) -> Repository | Response:
    refused = _refused(request)
    if refused is not None:
        return refused
    repository = _hub(request).repositories.get(name)
    if repository is None or (repository.private and _token(request) is None):
        return _error(404 if _token(request) else 401, "RepoNotFound", "Repository not found")
    return repository


router = APIRouter()


def _hub(request: Request) -> FakeHub:
    hub: FakeHub = request.app.state.hub
    return hub


async def watch(request: Request, call_next: Any) -> Any:
    hub = _hub(request)
    path = request.url.path
    hub.requests.append((request.method, path, request.headers.get("range")))
    status = hub.failing(path)
    if status is not None:
        return JSONResponse({"error": "injected"}, status)
    return await call_next(request)


@router.get("/api/whoami-v2")
def whoami(request: Request) -> Any:
    if _token(request) not in (GOOD_TOKEN, READ_TOKEN):
        return JSONResponse({"error": "Invalid username or password."}, 401)
    return {"name": "user", "type": "user", "orgs": [], "auth": {"accessToken": {}}}


@router.post("/api/repos/create")
async def create(request: Request) -> Any:
    hub = _hub(request)
    refused = _refused(request, write=True)
    if refused is not None:
        return refused
    body = await request.json()
    name = f"{body.get('organization') or 'user'}/{body['name']}"
    url = f"{hub.url}/{name}"
    if name in hub.repositories:
        return JSONResponse({"error": "exists", "url": url}, 409)
    private = body.get("private") or body.get("visibility") == "private"
    hub.repositories[name] = Repository(bool(private))
    return {"url": url, "id": name, "name": name}


def info(request: Request, name: str, revision: str) -> Any:
    found = _found(request, name)
    if isinstance(found, Response):
        return found
    state = found.at(revision)
    if state is None:
        return _error(404, "RevisionNotFound", "Invalid rev id")
    commit, tree = state
    files = [{"rfilename": path, "size": len(data)} for path, data in tree.items()]
    return {"id": name, "sha": commit, "private": found.private, "siblings": files, "tags": []}


@router.get("/api/models/{user}/{model}")
def newest(request: Request, user: str, model: str) -> Any:
    return info(request, f"{user}/{model}", "main")


@router.get("/api/models/{user}/{model}/revision/{revision}")
def at_revision(request: Request, user: str, model: str, revision: str) -> Any:
    return info(request, f"{user}/{model}", revision)


@router.post("/api/models/{user}/{model}/preupload/{revision}")
async def preupload(request: Request, user: str, model: str, revision: str) -> Any:
    refused = _refused(request, write=True)
    if refused is not None:
        return refused
    files = (await request.json())["files"]
    return {
        "files": [
            {
                "path": file["path"],
                "uploadMode": "lfs"
                if file["size"] >= _LFS_FROM or file["path"].endswith(".safetensors")
                else "regular",
                "shouldIgnore": False,
            }
            for file in files
        ]
    }


@router.post("/api/validate-yaml")
async def validate(request: Request) -> Any:
    front = (await request.json())["content"].split("---")[1]
    if not isinstance(yaml.safe_load(front), dict):
        return JSONResponse({"errors": [{"message": "no mapping"}], "warnings": []}, 400)
    return {"errors": [], "warnings": []}


@router.post("/{user}/{model}.git/info/lfs/objects/batch")
async def batch(request: Request, user: str, model: str) -> Any:
    hub = _hub(request)
    objects = (await request.json())["objects"]
    answer = []
    for one in objects:
        entry = {"oid": one["oid"], "size": one["size"]}
        if one["oid"] not in hub.blobs:
            entry["actions"] = {"upload": {"href": f"{hub.url}/lfs/{one['oid']}"}}
        answer.append(entry)
    return {"transfer": "basic", "objects": answer}


@router.put("/lfs/{oid}")
async def put(request: Request, oid: str) -> Any:
    hub = _hub(request)
    content = await request.body()
    hub.received += len(content)
    if hashlib.sha256(content).hexdigest() != oid:
        return JSONResponse({"error": "wrong content"}, 400)
    hub.blobs[oid] = content
    return Response()


@router.post("/api/models/{user}/{model}/commit/{revision}")
async def commit(request: Request, user: str, model: str, revision: str) -> Any:
    hub = _hub(request)
    name = f"{user}/{model}"
    refused = _refused(request, write=True)
    if refused is not None:
        return refused
    tree = dict(hub.tree(name))
    for line in (await request.body()).splitlines():
        item = json.loads(line)
        value = item["value"]
        if item["key"] == "file":
            tree[value["path"]] = base64.b64decode(value["content"])
        elif item["key"] == "lfsFile":
            tree[value["path"]] = hub.blobs[value["oid"]]
        elif item["key"] == "deletedFile":
            tree.pop(value["path"], None)
    repository = hub.repositories[name]
    repository.commits.append(tree)
    made = repository.name_of(len(repository.commits) - 1)
    return {"commitUrl": f"{hub.url}/{name}/commit/{made}", "commitOid": made, "success": True}


@router.api_route("/{user}/{model}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
async def resolve(request: Request, user: str, model: str, revision: str, path: str) -> Any:
    hub = _hub(request)
    found = _found(request, f"{user}/{model}")
    if isinstance(found, Response):
        return found
    state = found.at(revision)
    if state is None:
        return _error(404, "RevisionNotFound", "Invalid rev id")
    commit, tree = state
    if path not in tree:
        return _error(404, "EntryNotFound", "Entry not found")
    content = tree[path]
    headers = {
        "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
        "X-Repo-Commit": commit,
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }
    if request.method == "HEAD":
        return Response(headers={**headers, "Content-Length": str(len(content))})
    begin, status = 0, 200
    if (span := request.headers.get("range")) is not None:
        begin, status = int(span.removeprefix("bytes=").split("-")[0]), 206
        headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
    body = content[begin:]
    headers["Content-Length"] = str(len(body))
    stop = hub.cut.pop(path, len(body))
    hub.sent[path] = hub.sent.get(path, 0) + min(stop, len(body))

    async def stream() -> Any:
        yield body[:stop]
        if stop < len(body):
            await asyncio.sleep(0.05)
            raise ConnectionResetError("cut on purpose")

    return StreamingResponse(stream(), status, headers=headers)


def build(hub: FakeHub) -> FastAPI:
    """Build the application."""
    app = FastAPI()
    app.state.hub = hub
    app.include_router(router)
    app.middleware("http")(watch)
    return app


class Running:
    """A server in a thread. Each test installs its own hub."""

    def __init__(self) -> None:
        self._app = build(FakeHub())
        config = uvicorn.Config(
            self._app, host="127.0.0.1", port=0, log_config=None, lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> "Running":
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
        return self

    def new_hub(self) -> FakeHub:
        """Replace the hub by an empty one."""
        hub = self._app.state.hub = FakeHub()
        (socket,) = self._server.servers[0].sockets
        hub.url = f"http://127.0.0.1:{socket.getsockname()[1]}"
        return hub

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
