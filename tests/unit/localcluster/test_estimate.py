import subprocess
import sys
import time

import pytest

from localcluster import progress as progress_module
from localcluster.estimate import START_SECONDS, Forecast, in_words
from localcluster.progress import Progress, processor_seconds

WEIGHTS = {"kubernetes": 600.0, "containerd": 100.0, "helm": 20.0}


def test_before_anything_ran_the_cores_are_counted_on() -> None:
    left = Forecast(WEIGHTS, 2).seconds_left({}, 0)
    assert left == pytest.approx(720 / 1.8 + START_SECONDS)


def test_what_a_build_has_used_is_not_left() -> None:
    forecast = Forecast(WEIGHTS, 2)
    # All of two processors for 100 seconds.
    left = forecast.seconds_left({"kubernetes": 180.0, "containerd": 20.0}, 100)
    assert left == pytest.approx((720 - 200) / 2 + START_SECONDS)
    # A machine that gives only half of that takes twice the time.
    left = forecast.seconds_left({"kubernetes": 180.0, "containerd": 20.0}, 200)
    assert left == pytest.approx(720 - 200 + START_SECONDS)


def test_a_build_that_took_what_was_foretold_is_not_over() -> None:
    left = Forecast({"kubernetes": 600.0}, 2).seconds_left({"kubernetes": 900.0}, 450)
    assert left == pytest.approx(0.05 * 600 / 2 + START_SECONDS)


def test_what_is_done_corrects_the_forecast_of_the_rest() -> None:
    forecast = Forecast(WEIGHTS, 2, done={"kubernetes": 300.0})
    # Half of what was foretold, at two processor seconds a second.
    assert forecast.seconds_left({}, 150) == pytest.approx(120 * 0.5 / 2 + START_SECONDS)
    forecast.done["kubernetes"] = 6.0
    assert forecast.seconds_left({}, 150) >= 120 * 0.3 / 2 + START_SECONDS


def test_everything_built_leaves_the_start() -> None:
    forecast = Forecast(WEIGHTS, 2, done=dict(WEIGHTS))
    assert forecast.seconds_left({}, 400) == START_SECONDS


@pytest.mark.parametrize(
    ("seconds", "words"), [(3, "10 s"), (62, "60 s"), (89, "90 s"), (100, "2 min"), (840, "14 min")]
)
def test_a_duration_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_one_line_serves_all_steps_and_a_suggestion_comes_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_module, "TERMINAL_SECONDS", 0.02)
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.1)
    monkeypatch.setattr(progress_module, "SUGGESTION_SECONDS", 0.05)
    shown = Progress()
    shown.foretell(Forecast(WEIGHTS, 2), "read something")
    lines: list[str] = []

    def wait_for(text: str) -> None:
        deadline = time.monotonic() + 20
        while not any(text in line for line in lines):
            assert time.monotonic() < deadline, lines
            time.sleep(0.02)
            lines.extend(capsys.readouterr().err.splitlines())

    with shown.heartbeat("building kubernetes", "kubernetes"):
        with shown.heartbeat("building containerd", "containerd") as step:
            wait_for("min until the cluster is ready (0 of 3 built; now kubernetes, containerd)")
            step.cpu_seconds = 100.0
        wait_for("building containerd: done in ")
        wait_for("s, 100 CPU seconds")
        wait_for("min until the cluster is ready (1 of 3 built; now kubernetes)")
        wait_for("read something")
        begin = len(lines)
        time.sleep(0.2)
        lines.extend(capsys.readouterr().err.splitlines())
    assert not any("read something" in line for line in lines[begin:])


def test_processor_seconds_include_children_that_ended() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    parent = (
        "import subprocess, sys, time\n"
        f"subprocess.run([sys.executable, '-c', {burn!r}])\n"
        "print(1, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert processor_seconds(process.pid) >= 0.25
        process.kill()
