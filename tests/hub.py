"""The Hugging Face hub on this machine: the documented calls that make a repository, commit to it and download."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.local_server import LocalServer

TOKEN = "hf_a_secret_of_this_test"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub(LocalServer):
    """Repositories by OWNER/NAME, each a mapping of file names to bytes; `refuses` is a status for every call."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refuses: int | None = None
    tokens: list[str | None] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        parts = request.path.partition("?")[0].strip("/").split("/")
        if request.command == "POST":
            self.tokens.append(request.headers.get("Authorization"))
        if self.refuses is not None:
            self._send(request, self.refuses, {"error": "refused"})
        elif parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self._send(request, 409 if name in self.repos else 200, {"url": f"{self.origin}/{name}"})
            self.repos.setdefault(name, {})
        elif parts == ["api", "validate-yaml"]:
            self._send(request, 200, {"errors": [], "warnings": []})
        elif parts[:2] == ["api", "models"]:
            self._answer_api("/".join(parts[2:4]), parts[4:], request, body)
        else:
            self._send_file(self.repos.get("/".join(parts[:2]), {}).get("/".join(parts[4:])), request)

    def _answer_api(self, repo: str, call: list[str], request: BaseHTTPRequestHandler, body: bytes) -> None:
        if repo not in self.repos:
            self._send(request, 404, {"error": "Repository not found"})
        elif call[:1] == ["preupload"]:
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in files]
            self._send(request, 200, {"files": modes})
        elif call[:1] == ["commit"]:
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.repos[repo][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            url = f"{self.origin}/{repo}/commit/{COMMIT}"
            self._send(request, 200, {"commitUrl": url, "commitOid": COMMIT, "success": True})
        else:
            self._send(request, 200, {"id": repo, "sha": COMMIT, "siblings": []})

    def _send(self, request: BaseHTTPRequestHandler, status: int, document: Any) -> None:
        self._write(request, status, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _send_file(self, data: bytes | None, request: BaseHTTPRequestHandler) -> None:
        if data is None:
            self._write(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
        else:
            digest = hashlib.sha256(data).hexdigest()
            self._write(request, 200, data, {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT})

    def _write(self, request: BaseHTTPRequestHandler, status: int, data: bytes, headers: dict[str, str]) -> None:
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data)
