"""Both ends work where the system has less than Linux: no signals in the event loop, no poll, no descriptor tricks."""

import json
import signal
from pathlib import Path

import pytest
from calls import PICTURE, run, running
from rtc_network import free_port

ELSEWHERE = (str(Path(__file__).with_name("elsewhere.py")),)

pytestmark = pytest.mark.field


@pytest.mark.parametrize("tls", [False, True], ids=["plainly", "over TLS"])
def test_a_call_without_what_windows_lacks(tmp_path: Path, *, tls: bool) -> None:
    serve = ["--serve", f"127.0.0.1:{free_port()}", *(["--tls-self"] if tls else [])]
    with running("broadcast", *PICTURE, *serve, by=ELSEWHERE, XDG_DATA_HOME=str(tmp_path)) as broadcaster:
        certificate = ["--ca", broadcaster.next("certificate")["path"]] if tls else []
        reached = ["--url", broadcaster.next("ready")["url"], *certificate]
        code, out, err = run("receive", "--frames", "20", "--json", *reached, by=ELSEWHERE)
        assert (code, err) == (0, ""), out + err
        assert json.loads(out.splitlines()[-1])["frames"] >= 20
        broadcaster.process.send_signal(signal.SIGINT)
        broadcaster.next("summary")
        assert broadcaster.process.wait(20) == 0


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["in lines", "as JSON"])
def test_stdout_need_not_be_of_an_encoding_that_has_all_letters(form: list[str]) -> None:
    serve = ["--serve", f"127.0.0.1:{free_port()}", "--name", "日本"]
    code, out, err = run("broadcast", *PICTURE, *serve, "--duration", "0.1", *form, PYTHONIOENCODING="cp1252")
    assert (code, err) == (0, ""), out + err
