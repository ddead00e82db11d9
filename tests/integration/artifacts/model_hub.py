"""The small part of a model hub's API that getting a snapshot needs, on loopback: revisions, trees, files."""

import hashlib
import json
from dataclasses import dataclass, field
from urllib.parse import unquote

from tests.integration.artifacts.file_server import FileServer, Handler

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    """Files at one commit, which the branches name."""

    files: dict[str, bytes]
    kind: str = "models"
    branches: tuple[str, ...] = ("main",)
    token: str | None = None
    """Without it the repository does not exist for a request."""
    cuts: list[int] = field(default_factory=list)
    """After so many bytes the next download is dropped."""


class ModelHub:
    """Answers requests of a `FileServer`."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.server = FileServer(self.answer)

    def answer(self, request: Handler) -> None:
        """One request."""
        path = unquote(request.path.partition("?")[0])
        for name, repository in self.repositories.items():
            prefix = "" if repository.kind == "models" else f"{repository.kind}/"
            is_known = repository.token in (
                None,
                request.headers.get("Authorization", "").removeprefix("Bearer "),
            )
            if not is_known:
                continue
            api = f"/api/{repository.kind}/{name}"
            if path.startswith(f"{api}/tree/"):
                return _json(request, _tree(repository))
            if path.startswith(f"{api}/revision/") or path == api:
                revision = path.removeprefix(f"{api}/revision/")
                if revision not in (*repository.branches, COMMIT):
                    return _refuse(request, 404, "RevisionNotFound")
                siblings = [{"rfilename": file} for file in repository.files]
                return _json(request, {"id": name, "sha": COMMIT, "siblings": siblings})
            resolved = f"/{prefix}{name}/resolve/{COMMIT}/"
            if path.startswith(resolved):
                return _file(request, repository, path.removeprefix(resolved))
        return _refuse(request, 401, "RepoNotFound")


def _tree(repository: Repository) -> list[dict[str, object]]:
    return [
        {"type": "file", "oid": _tag(content), "size": len(content), "path": path}
        for path, content in repository.files.items()
    ]


def _file(request: Handler, repository: Repository, path: str) -> None:
    content = repository.files.get(path)
    if content is None:
        return _refuse(request, 404, "EntryNotFound")
    wanted = request.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
    first = int(wanted or 0)
    request.send_response(206 if wanted else 200)
    request.send_header("X-Repo-Commit", COMMIT)
    request.send_header("ETag", f'"{_tag(content)}"')
    request.send_header("Content-Length", str(len(content) - first))
    if wanted:
        request.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
    request.end_headers()
    if request.command == "HEAD":
        return None
    if repository.cuts:
        request.wfile.write(content[first : first + repository.cuts.pop(0)])
        request.close_connection = True
    else:
        request.wfile.write(content[first:])
    return None


def _tag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _json(request: Handler, data: object) -> None:
    body = json.dumps(data).encode()
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("X-Repo-Commit", COMMIT)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)


def _refuse(request: Handler, status: int, code: str) -> None:
    request.send_response(status)
    request.send_header("X-Error-Code", code)
    request.send_header("X-Error-Message", f"{code}, says the hub")
    request.send_header("Content-Length", "0")
    request.end_headers()
