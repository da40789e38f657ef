"""The page in a real browser measures, sends, is closed, is offline and is broken; each failure is one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lxcompress.analysis.devices import read_device_rows
from lxcompress.analysis.summary import summarise
from lxcompress.report.devices import device_tables
from lxcompress.rundir import RunDir, read_run
from lxcompress.web.page import list_files
from lxcompress.web.server import HEADERS
from lxcompress.workflow.page import make_page
from tests.life.test_browser import Browser
from tests.measure.artifacts import build_artifact
from tests.web.visit import QUESTION, Visit, find_package

pytestmark = pytest.mark.native


def test_a_measurement_is_sent_and_the_report_shows_it(visit: Visit) -> None:
    visit.load()
    visit.browser.value("document.getElementById('device').value = 'My phone'")
    visit.click("start")
    visit.wait_for_measurement()
    assert visit.text("measure-state") == "Measured."
    assert visit.browser.value("document.querySelectorAll('#rows tr').length") == 2
    visit.click("send")
    visit.until("document.getElementById('measure-state').textContent.startsWith('Sent')")
    table = next(table for table in device_tables(summarise(read_run(visit.run.root))) if table.name == "My phone")
    assert [row[0] for row in table.rows] == ["dense-engine", "ticket-engine"]
    assert visit.browser.value("localStorage.getItem('measurement')") is None


def test_a_rival_is_measured_in_turns_with_the_engine(browser: Browser, run: RunDir, tmp_path: Path) -> None:
    folder = find_package("onnxruntime-web", "ORT_WEB", "dist")
    rival = build_artifact(run.artifacts / "rival-onnx")  # its features are narrower than those of the engine's models
    make_page([run.root], tmp_path / "page", rivals=folder)
    visit = Visit(browser, tmp_path / "page", run)
    try:
        visit.load(query="?threads=2")
        visit.browser.value("document.getElementById('device').value = 'Rival phone'")
        visit.click("start")
        visit.wait_for_measurement()
        assert (visit.text("problem"), visit.text("measure-state")) == ("", "Measured.")
        visit.click("send")
        visit.until("document.getElementById('measure-state').textContent.startsWith('Sent')")
        measured = [row.measurement for row in read_device_rows(run.root)["Rival-phone"]]
        assert [(found.artifact, found.task.runtime) for found in measured] == [
            ("dense-engine", "engine-web"),
            ("ticket-engine", "engine-web"),
            ("rival-onnx", "onnxruntime-web"),
        ]
        assert len({tuple(found.rounds) for found in measured}) == 1
        assert {found.task.threads for found in measured} == {2}
        assert measured[2].peak_bytes > 1_000_000
        assert measured[2].machine.packages["onnxruntime-web"]
        assert visit.browser.happened("Log.entryAdded", "Runtime.exceptionThrown") == []
    finally:
        visit.close()
        shutil.rmtree(rival)


def test_a_measurement_of_no_file_is_one_sentence(visit: Visit) -> None:
    visit.load()
    visit.browser.value("document.querySelectorAll('#candidates input').forEach((box) => { box.checked = false; })")
    visit.click("start")
    assert visit.text("measure-state") == "Choose at least one file to measure."
    assert visit.browser.value("localStorage.getItem('measurement')") is None


def test_a_closed_page_has_its_finished_rounds(visit: Visit) -> None:
    visit.load()
    visit.click("start")
    visit.until("localStorage.getItem('measurement')")
    visit.load()
    assert visit.text("measure-state").startswith("The page was closed while it measured")
    assert visit.browser.value("document.querySelectorAll('#rows tr').length") == 2


def test_the_page_works_without_its_server(visit: Visit) -> None:
    visit.server.RequestHandlerClass.timeout = 0.2  # the connections that the browser keeps open end soon
    visit.load()
    visit.ask(QUESTION)
    visit.server.shutdown()
    visit.thread.join()
    visit.server.socket.close()
    visit.load()
    assert visit.text("problem") == ""
    assert visit.ask(QUESTION)
    visit.click("start")
    visit.wait_for_measurement()
    visit.click("send")
    visit.until("document.getElementById('measure-state').textContent.startsWith('The computer did not take it')")


def test_what_is_broken_is_one_sentence(visit: Visit) -> None:
    builds = [name for name in list_files(visit.page) if name.startswith("engine")]
    for path in visit.page.glob("model-*"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    visit.load()
    assert "is damaged: it is not the file that was exported" in visit.text("problem")
    for name in builds:
        (visit.page / name).unlink()
    visit.browser.ask("Storage.clearDataForOrigin", origin=visit.url.split("/secret")[0], storageTypes="all")
    visit.load()
    assert visit.text("problem") in [
        f"{name} could not be fetched. Check the network, and reload the page." for name in builds
    ]


def test_a_browser_without_simd_is_one_sentence(visit: Visit) -> None:
    (engine,) = visit.page.glob("code-*/engine-file.js")
    engine.write_text(f"WebAssembly.validate = () => false;\n{engine.read_text(encoding='utf-8')}", encoding="utf-8")
    visit.load()
    assert visit.text("problem").startswith("This browser has no WebAssembly with SIMD.")


def test_a_server_without_isolation_is_one_sentence(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(HEADERS, "Cross-Origin-Opener-Policy")
    visit.load(query="?threads=2")
    assert visit.browser.value("crossOriginIsolated") is False
    assert visit.text("state").endswith("Threads in use: 1.")
    assert visit.ask(QUESTION)
    visit.click("start")
    visit.wait_for_measurement()
    assert "The server does not isolate this page" in visit.text("warnings")


def test_threads_that_do_not_start_leave_one(visit: Visit) -> None:
    (engine,) = visit.page.glob("code-*/engine-file.js")
    failure = 'if (globalThis.name === "lxcompress-helper") throw new Error("no threads");'
    engine.write_text(f"{failure}\n{engine.read_text(encoding='utf-8')}", encoding="utf-8")
    visit.load(query="?threads=2")
    assert visit.text("state").endswith("Threads in use: 1.")
    assert visit.ask(QUESTION)


def test_a_denied_microphone_is_one_sentence(visit: Visit) -> None:
    visit.load()
    visit.click("speak")
    assert visit.until("document.getElementById('answer').innerText") == (
        "The browser does not let this page use the microphone. Type the question."
    )
    assert visit.ask(QUESTION)


def test_a_full_device_is_one_sentence_and_still_answers(visit: Visit) -> None:
    origin = visit.url.split("/secret")[0]
    visit.load()
    visit.browser.ask("Storage.clearDataForOrigin", origin=origin, storageTypes="cache_storage")
    visit.browser.ask("Storage.overrideQuotaForOrigin", origin=origin, quotaSize=1000)
    visit.load()
    assert "no room to keep the files" in visit.until("document.getElementById('notice').textContent")
    assert visit.ask(QUESTION)
    visit.browser.ask("Storage.overrideQuotaForOrigin", origin=origin)
