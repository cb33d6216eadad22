import os
import signal
import subprocess

from localcluster.processes import Process, identify


def test_a_process_is_told_from_a_later_one_with_the_same_id() -> None:
    own = identify(os.getpid())
    assert own is not None
    assert own.alive
    assert not Process(own.pid, own.started - 1).alive


def test_a_reused_id_gets_no_signal() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        real = identify(child.pid)
        assert real is not None
        Process(real.pid, real.started - 1).signal(signal.SIGKILL)
        assert not Process(real.pid, real.started - 1).alive
        assert child.poll() is None
        real.signal(signal.SIGKILL)
        assert real.wait_gone(5)


def test_a_dead_child_that_nobody_waited_for_is_not_alive() -> None:
    with subprocess.Popen(["true"]) as child:
        process = identify(child.pid)
        assert process is None or process.wait_gone(5)


def test_no_process_has_no_identity() -> None:
    assert identify(2**22 + 1) is None
