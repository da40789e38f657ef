"""Laws of the children that tests start: processes of their own, with the libraries and nothing of ours imported."""

from __future__ import annotations

import os
import signal
import sys

from tests import children


def test_a_child_ends_with_the_exit_code_of_its_code() -> None:
    assert children.run("pass").returncode == 0
    assert children.run("import sys; sys.exit(3)").returncode == 3
    assert children.run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)").returncode == -signal.SIGKILL
    failed = children.run("1 / 0")
    assert (failed.returncode, failed.stderr.splitlines()[-1]) == (1, "ZeroDivisionError: division by zero")


def test_a_child_has_its_own_words_folder_environment_and_session(tmp_path) -> None:
    code = "import os, sys; print(sys.argv[1:], os.getcwd(), dict(os.environ), os.getsid(0) == os.getpid())"
    done = children.run(code, "a", 2, env={"NAME": "value"}, cwd=tmp_path)
    assert done.stdout.split("\n") == [f"['a', '2'] {tmp_path} {{'NAME': 'value'}} True", ""]
    assert done.stderr == ""


def test_a_signal_reaches_a_child() -> None:
    sleeper = children.start("import time; time.sleep(600)")
    assert sleeper.poll() is None
    os.kill(sleeper.pid, 0)
    sleeper.send_signal(signal.SIGKILL)
    assert sleeper.finish().returncode == -signal.SIGKILL
    assert sleeper.poll() == -signal.SIGKILL


def test_a_child_has_one_thread_and_imports_our_code_itself() -> None:
    code = (
        "import os, sys\n"
        "ours = any(name.partition('.')[0] == 'lxcompress' for name in sys.modules)\n"
        "print(ours, 'torch' in sys.modules, len(os.listdir('/proc/self/task')))"
    )
    if sys.platform == "linux":
        assert children.run(code).stdout == "False True 1\n"
    done = children.run(children.COMMAND, "report", "nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("error: nowhere: is not a run folder")
