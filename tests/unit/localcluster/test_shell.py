import pytest

from localcluster.errors import ClusterError, TimedOutError
from localcluster.shell import answer, run


def test_a_question_that_is_asked_again_may_fail_or_be_late() -> None:
    assert answer(["echo", "ok"]) == "ok"
    assert answer(["sh", "-c", "echo ok; exit 1"]) is None
    assert answer(["sleep", "5"], timeout=0.1) is None
    with pytest.raises(ClusterError, match="not installed"):
        answer(["no-such-program-here"])


def test_a_program_that_does_not_end_is_an_error() -> None:
    with pytest.raises(TimedOutError, match="did not end within 0 s"):
        run(["sleep", "5"], timeout=0.1)
