"""Child processes that start with the libraries imported, for tests that need a process of its own for a command.

Importing torch and transformers takes a new interpreter 4 s of processor time, and takes a child of this module none:
one process, the server, imports them and nothing of lxcompress, has one thread, and forks when a test asks for a child.
The child is a real process in its own session: a signal reaches it alone, and its exit code is that of its own code.

An interpreter reads PYTHONHASHSEED, PYTHONPATH and OMP_NUM_THREADS when it starts, so they have no effect on a child.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import IO, Any

ROOT = Path(__file__).parents[1]
COMMAND = "from lxcompress.__main__ import run; run()"
"""The program of the `lxcompress` command: its arguments are the words after `lxcompress`."""
LIGHT = ("filelock", "jinja2", "numpy", "psutil", "pydantic", "rich.console", "rich.progress", "typer", "yaml")
"""The libraries of commands that read: none that takes long to import."""
CHARTS = (*LIGHT, "matplotlib.figure", "matplotlib.ticker", "matplotlib.backends.backend_svg")
"""The libraries of `lxcompress report`."""
TORCH = (
    *LIGHT,
    *("onnx", "safetensors.torch", "torch", "torch._dynamo", "torch.export"),
    "transformers.models.lxmert.modeling_lxmert",
)
"""The libraries of commands that train, prune and export."""
LONGEST_REQUEST = 1 << 17


@dataclass(frozen=True)
class Server:
    """The process that starts children, and the socket that takes requests to it."""

    requests: socket.socket
    process: subprocess.Popen[bytes]


@dataclass
class Child:
    """A child process whose output goes to two files; `parent` is its server, or the process where there are none."""

    pid: int
    out: IO[str]
    errors: IO[str]
    parent: Server | subprocess.Popen[bytes]
    returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code (minus the number of the signal that ended it), or None while it runs."""
        if isinstance(self.parent, subprocess.Popen):
            self.returncode = self.parent.poll()
        elif self.returncode is None:
            self.returncode = _ask(self.parent, {"wait": self.pid, "options": os.WNOHANG})
        return self.returncode

    def wait(self) -> int:
        """Return the exit code when the child has ended."""
        if isinstance(self.parent, subprocess.Popen):
            self.returncode = self.parent.wait()
        elif self.returncode is None:
            self.returncode = _ask(self.parent, {"wait": self.pid, "options": 0})
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the child, if it has not been seen to end."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def finish(self) -> subprocess.CompletedProcess[str]:
        """Wait for the child, and return its exit code and what it printed."""
        code = self.wait()
        said = [_read_all(file) for file in (self.out, self.errors)]
        return subprocess.CompletedProcess([], code, *said)


def start(
    code: str,
    *arguments: object,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    libraries: tuple[str, ...] = TORCH,
) -> Child:
    """Start a child that runs `code` as `python -c` does, with its arguments in `sys.argv`."""
    words, environment = [str(argument) for argument in arguments], dict(os.environ if env is None else env)
    out, errors = (tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2))  # noqa: SIM115
    if sys.platform != "linux":  # a fork after these imports is sound on Linux only
        command = [sys.executable, "-c", code, *words]
        process = subprocess.Popen(command, env=environment, cwd=cwd, stdout=out, stderr=errors, start_new_session=True)
        return Child(process.pid, out, errors, process)
    request = {"code": code, "arguments": words, "env": environment, "cwd": os.fspath(cwd or Path.cwd())}
    server = _server(libraries)
    return Child(_ask(server, request, out.fileno(), errors.fileno()), out, errors, server)


def run(code: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `code` in a child as `python -c` does; return its exit code and what it printed. The options are start's."""
    return start(code, *arguments, **options).finish()


def _read_all(file: IO[str]) -> str:
    with file:
        file.seek(0)
        return file.read()


@cache
def _server(libraries: tuple[str, ...]) -> Server:
    """Start the server of this test process that has imported `libraries`."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = f"from tests.children import serve; serve({its.fileno()}, {libraries!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        pass_fds=(its.fileno(),),
        start_new_session=True,
    )
    its.close()

    @atexit.register
    def stop() -> None:
        ours.close()
        process.wait()

    return Server(ours, process)


def _ask(server: Server, request: Mapping[str, object], *descriptors: int) -> int:
    """Send a request to a server, and return its reply: a process id, or an exit code."""
    text = json.dumps(request).encode()
    assert len(text) < LONGEST_REQUEST
    reply = b""
    with suppress(ConnectionError):
        socket.send_fds(server.requests, [text], descriptors)
        reply = server.requests.recv(LONGEST_REQUEST)
    assert reply, f"the server of child processes has ended with {server.process.wait()}; it was asked: {text[:300]!r}"
    return json.loads(reply)


def serve(descriptor: int, libraries: tuple[str, ...]) -> None:
    """Import the libraries, then start children and wait for them as requests ask, until the socket is closed."""
    with socket.socket(fileno=descriptor) as requests:
        for name in ("torchao", "torch.utils._pytree"):  # they warn of GPU kernels that are not installed
            logging.getLogger(name).setLevel(logging.ERROR)
        for name in libraries:
            import_module(name)
        assert len(os.listdir("/proc/self/task")) == 1, "a fork of a process of several threads may hang"
        assert not any(name.partition(".")[0] == "lxcompress" for name in sys.modules)
        os.fsync = lambda descriptor: None  # tests/conftest.py says why
        while True:
            text, descriptors, _, _ = socket.recv_fds(requests, LONGEST_REQUEST, 2)
            if not text:
                return
            request = json.loads(text)
            if "wait" in request:
                pid, status = os.waitpid(request["wait"], request["options"])
                reply = os.waitstatus_to_exitcode(status) if pid else None
            else:
                reply = os.fork()
                if not reply:
                    requests.close()
                    _become(request, descriptors)
                for number in descriptors:
                    os.close(number)
            requests.sendall(json.dumps(reply).encode())


def _become(request: Mapping[str, object], descriptors: list[int]) -> None:
    """Run the code of a request in this new process, and end the process as an interpreter would."""
    os.setsid()
    for number, descriptor in enumerate(descriptors, 1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = ["-c", *request["arguments"]]
    main = sys.modules["__main__"] = ModuleType("__main__")
    status = 1
    try:
        exec(compile(request["code"], "<child>", "exec"), main.__dict__)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
