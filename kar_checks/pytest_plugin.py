"""The pytest plugin: options, planning, the ``measure`` and ``verdict`` fixtures, recording.

It touches no cluster at import or collection. ``kar run`` registers :class:`KarPlugin` itself; in
plain pytest this module is loaded with ``-p kar_checks.pytest_plugin`` and builds one from the
command line.
"""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Generator
from html import escape
from types import FrameType
from typing import Any, NoReturn

import pytest

from kar_checks import exits, report
from kar_checks.checks.registry import find
from kar_checks.cluster import openshift
from kar_checks.cluster.errors import HarnessError
from kar_checks.exits import Exit
from kar_checks.kit.option import Option
from kar_checks.kit.pytest_face import Measure, Verdict
from kar_checks.kit.topic import Check, Topic
from kar_checks.model import Finding, Observation, Outcome
from kar_checks.options import Options, UsageError
from kar_checks.profile import RenamedSetting
from kar_checks.repeat import NothingToRepeat
from kar_checks.run_options import all_options, build
from kar_checks.runner import Preflight, Runner, prepare
from kar_checks.store import StoreError, new_run_id
from kar_checks.view import PlainView, View

_WORDS = {
    Outcome.INCONCLUSIVE: ("inconclusive", "I", "INCONCLUSIVE"),
    Outcome.NOT_APPLICABLE: ("not applicable", "N", "NOT APPLICABLE"),
    Outcome.SKIPPED: ("skipped", "s", "SKIPPED"),
    Outcome.ERROR: ("error", "E", "ERROR"),
}
_OUTCOME = pytest.StashKey[Outcome]()
_WORST = (
    Outcome.FAIL,
    Outcome.ERROR,
    Outcome.INCONCLUSIVE,
    Outcome.NOT_RUN,
    Outcome.SKIPPED,
    Outcome.NOT_APPLICABLE,
    Outcome.PASS,
)


class KarPlugin:
    """One run inside one pytest session."""

    def __init__(self, options: Options, view: View | None = None, run_id: str = "") -> None:
        self.options = options
        self.run_id = run_id or new_run_id()
        self.view = view
        self.runner: Runner | None = None
        self.code: Exit | None = None
        self.refused: HarnessError | StoreError | None = None
        """Why the run could not even begin."""
        self.broken = False
        """Whether a test module could not be loaded: a defect, and no interrupt as for pytest."""
        self._checks: dict[str, tuple[Topic, Check]] = {}
        self._handlers: dict[int, Any] = {}

    # -- collection: which checks ------------------------------------------------------------

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave out the tests of checks that were not selected."""
        try:
            chosen = {check.id for _, check in self.options.selection}
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error
        out = [one for one in items if (mine := _check_of(one)) and mine not in chosen]
        if out:
            config.hook.pytest_deselected(items=out)
            items[:] = [one for one in items if one not in out]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Show what could not be collected; in plain pytest its own terminal does."""
        if report.failed:
            self.broken = True
            if self.view:
                self.view.progress(report.longreprtext)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note the checks that are left after every selection, pytest's own included."""
        for item in session.items:
            if name := _check_of(item):
                self._checks[name] = find(name)
                title = ("title", self._checks[name][1].title)
                item.user_properties.append(title)  # for pytest's own --junit-xml

    # -- the run around the tests ------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Look at the target and open the run, before the first test and after all collection."""
        if session.config.option.collectonly or not self._checks:
            return
        if not self.options.names_a_cluster:
            raise pytest.UsageError(
                "no cluster is named: give --kubeconfig, --context or --local-cluster"
            )
        try:
            before = prepare(self.options, list(self._checks.values()), self.run_id)
        except HarnessError as error:
            self.refused = error
            _refuse(error)
        self._open(before, session.config)

    def _open(self, before: Preflight, config: pytest.Config) -> None:
        view = self.view or PlainView(config.get_terminal_writer().line)
        self.view = view
        view.target(before.target_line)
        if refused := before.refuses_user:
            view.progress(f"{refused.text}: give {openshift.OPTION}")
        try:
            self.runner = Runner(before, view.progress, view.measuring)
        except StoreError as error:
            self.refused = error
            pytest.exit(str(error), returncode=Exit.INTERNAL)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        """End waits, keep what was measured; a second signal ends the cleanup, too."""
        if self.runner is None or self.runner.interrupted:
            raise KeyboardInterrupt
        name = signal.Signals(number).name
        # Not from the handler itself: it may have stopped the thread that holds the lock.
        threading.Thread(target=self.runner.interrupt, args=(name,), daemon=True).start()
        if self.view:
            self.view.progress(f"{name}: ending; what was measured is kept (again: at once)")

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Clean up, render, and tell the truth with the exit status."""
        if self.runner is None:
            return
        try:
            self.code = self.runner.close(int(exitstatus))
            if self.options.render:
                report.write_all(self.runner.folder)
        except (KeyboardInterrupt, StoreError) as error:
            run = self.runner.run
            self.code = exits.of_run(run.info, run.findings, trouble=error)
            if self.view:
                self.view.progress(
                    f"{error or 'interrupted'}: `kar cleanup --run {self.run_id}` removes the "
                    f"rest, `kar report {self.runner.folder}` renders what was measured"
                )
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
        session.exitstatus = int(self.code)
        if self.view:
            self.view.done(self.runner.folder)

    # -- one test ----------------------------------------------------------------------------

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Give a check that the plan leaves out its outcome, before any fixture is made."""
        name = _check_of(item)
        if not name or self.runner is None:
            return
        if self.runner.interrupted:
            pytest.skip("not run: the run was interrupted")
        planned = self.runner.planned(name)
        if planned.runs:
            return
        finding = next(one for one in self.runner.run.findings if one.check == name)
        self._tell(item, [finding])
        _raise(finding)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Take the check's outcome over to the report, and tell of errors in fixtures."""
        found = yield
        outcome = item.stash.get(_OUTCOME, None)
        if outcome is None and found.failed and self.runner is not None:
            mine = [one for one in self.runner.run.findings if one.check == _check_of(item)]
            if mine:
                self._tell(item, mine)
        found.kar_outcome = item.stash.get(_OUTCOME, None)  # type: ignore[attr-defined]
        if one := self._checks.get(_check_of(item)):
            found.kar_title = f"{one[1].id}: {one[1].title}"  # type: ignore[attr-defined]
        if self.runner is not None and self.runner.interrupted:
            item.session.shouldstop = f"interrupted by {self.runner.interrupted}"
        return found

    def pytest_report_teststatus(
        self, report: pytest.TestReport | pytest.CollectReport
    ) -> tuple[str, str, str] | None:
        """Show undecided checks under their own word, not as skipped."""
        outcome = getattr(report, "kar_outcome", None)
        if outcome is not None and not report.passed and report.when in ("setup", "call"):
            return _WORDS.get(outcome)
        return None

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_row(
        self, report: pytest.TestReport | pytest.CollectReport, cells: list[str]
    ) -> None:
        """Show the check's id and title in pytest-html's page, not the name of our function."""
        if title := getattr(report, "kar_title", ""):
            cells[1] = f'<td class="col-testId">{escape(title)}</td>'

    @pytest.fixture(scope="session")
    def measure(self) -> Measure:
        """Return a function that runs a topic's trial once and gives its observation."""
        runner = self.runner
        if runner is None:
            raise pytest.UsageError("no cluster is named: give --kubeconfig or --local-cluster")
        names = {topic.id: topic for topic, _ in self._checks.values()}
        return lambda topic: runner.measure(names[topic])

    @pytest.fixture
    def verdict(self, request: pytest.FixtureRequest) -> Verdict:
        """Return a function that judges the test's check from an observation, and raises."""
        runner, name = self.runner, _check_of(request.node)
        if runner is None or not name:
            raise pytest.UsageError("`verdict` needs a test marked with its check")
        topic, _ = self._checks[name]

        def give(seen: Observation) -> None:
            found = runner.judge(topic, name, seen)
            self._tell(request.node, found)
            _raise(min(found, key=lambda one: _WORST.index(one.outcome)))

        return give

    def _tell(self, item: pytest.Item, found: list[Finding]) -> None:
        item.stash[_OUTCOME] = min((one.outcome for one in found), key=_WORST.index)
        if self.view:
            self.view.findings(found)


def _raise(finding: Finding) -> None:
    about = f" [{finding.variant}]" if finding.variant else ""
    text = f"{finding.check}{about}: {finding.reason}: {finding.summary}"
    if finding.outcome is Outcome.PASS:
        return
    if finding.outcome in (Outcome.FAIL, Outcome.ERROR):
        pytest.fail(text, pytrace=False)
    pytest.skip(f"{finding.outcome.value}: {text}")


def _refuse(error: HarnessError | StoreError) -> NoReturn:
    if isinstance(error, StoreError):
        pytest.exit(str(error), returncode=Exit.INTERNAL)
    advice = f" ({error.fault.help})" if error.fault.help else ""
    pytest.exit(f"{error.fault.message}{advice}", returncode=Exit.PREFLIGHT)


def _check_of(item: Any) -> str:
    mark = item.get_closest_marker("check")
    return str(mark.args[0]) if mark else ""


# -- plain pytest ------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of ``kar run``, under one heading."""
    group = parser.getgroup("kar", "kar-checks: which cluster, which checks, how")
    for option in all_options():
        more: dict[str, Any] = {"help": option.help, "dest": _dest(option), "default": option.start}
        if option.type is bool:
            more["action"] = "store_true"
        else:
            more |= {"type": option.type, "metavar": option.metavar or None}
            more |= {"action": "append"} if option.many else {}
        group.addoption(*(option.pytest_names or (option.name,)), **more)


def _dest(option: Option) -> str:
    return f"kar_option_{option.dest}"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and the run that the command line describes."""
    config.addinivalue_line("markers", "check(id): the check whose verdict the test gives")
    if any(isinstance(one, KarPlugin) for one in config.pluginmanager.get_plugins()):
        return
    try:
        config.pluginmanager.register(KarPlugin(_options(config)), "kar-run")
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    except NothingToRepeat as error:
        pytest.exit(str(error), returncode=Exit.NOTHING)
    except (HarnessError, StoreError) as error:
        _refuse(error)


def _options(config: pytest.Config) -> Options:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", RenamedSetting)
        options = build({one.dest: config.getoption(_dest(one)) for one in all_options()})
    for one in told:
        config.issue_config_time_warning(RenamedSetting(str(one.message)), stacklevel=2)
    return options
