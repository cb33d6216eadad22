"""One run: connect, plan, measure each topic once, judge, store, clean up.

The pytest plugin drives it; nothing here knows pytest. It is opened before the first check runs
and closed after the last, whatever happened between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from kar_checks import __version__, exits, plan, programme
from kar_checks.checks.registry import all_checks, topics
from kar_checks.cluster import facts as cluster_facts
from kar_checks.cluster import kinds, openshift
from kar_checks.cluster.client import Cluster
from kar_checks.cluster.connect import connect
from kar_checks.cluster.errors import HarnessError, internal
from kar_checks.cluster.facts import Facts
from kar_checks.cluster.others import OtherRuns
from kar_checks.cluster.ownership import Workspace, runs_at_work
from kar_checks.exits import Exit
from kar_checks.kit import judging
from kar_checks.kit.topic import Check, Topic
from kar_checks.kit.trial import Trial
from kar_checks.model import (
    Cleanup,
    Environment,
    Fault,
    Finding,
    Observation,
    OtherRun,
    Outcome,
    PlannedCheck,
    Reason,
    RunInfo,
    TopicCost,
)
from kar_checks.options import Options
from kar_checks.redact import redact
from kar_checks.store import Run, new_run_id, now

Selection = Sequence[tuple[Topic, Check]]


class Preflight:
    """What can be known about a run without writing to the cluster: target, plan, rights.

    Raises:
        HarnessError: the cluster cannot be reached or refuses the credentials.
    """

    def __init__(self, options: Options, selection: Selection, run_id: str) -> None:
        self.options = options
        self.selection = selection
        self.run_id = run_id
        self.profile = options.profile
        self.connection = connect(
            options.kubeconfig, options.context, in_cluster=options.in_cluster
        )
        self.cluster = Cluster(
            self.connection,
            run_id=run_id,
            outage_seconds=self.profile.number("api.outage_seconds"),
        )
        self.facts: Facts = cluster_facts.gather(self.cluster)
        self.namespace = options.target.namespace or f"kar-{run_id}"
        if options.target.namespace:
            self._require_namespace()
        self.rights = [
            one
            for one in plan.needed_rights(selection, options.target, self.profile)
            if not one.optional or self.facts.serves_group(one.api or one.group)
        ]
        allowed = plan.ask_server(self.cluster, self.namespace, self.rights)
        self.missing = [one for one in self.rights if not allowed(one)]
        self.plan: list[PlannedCheck] = [
            plan.why_not(
                topic,
                check,
                self.facts,
                options.target,
                self.profile,
                allowed=allowed,
                max_disruption=options.max_disruption,
            )
            for topic, check in selection
        ]

    def _require_namespace(self) -> None:
        try:
            found = self.cluster.find(kinds.NAMESPACE, self.namespace)
        except HarnessError as error:
            if error.fault.reason is Reason.FORBIDDEN:
                return  # a namespaced Role may not read it; creating there will tell
            raise
        if found is None:
            raise HarnessError(
                Reason.API_ERROR,
                f"the namespace {self.namespace} does not exist",
                "create it, or leave --namespace out to let the run create its own",
            )

    @property
    def target_line(self) -> str:
        """The sentence that is printed before the first write."""
        nodes = "unknown" if self.facts.nodes is None else str(len(self.facts.nodes))
        return (
            f"{self.environment_name} ({self.connection.server}, Kubernetes "
            f"{self.facts.version}, {nodes} nodes), namespace {self.namespace}"
        )

    @property
    def refuses_user(self) -> openshift.Refusal | None:
        """Why the platform refuses the user id of our pods; ``None`` if it does not."""
        return openshift.refuses_user(self.cluster, self.facts, self.options.target, self.namespace)

    @property
    def environment_name(self) -> str:
        """The cluster's name for people."""
        return self.options.cluster_name or self.connection.cluster or self.connection.context

    def environment(self) -> Environment:
        """Return the record of the place, without addresses and credentials."""
        return Environment(
            cluster=self.environment_name,
            context=self.connection.context,
            cluster_uid=self.facts.cluster_uid,
            server_version=self.facts.version,
            user=self.facts.user,
            nodes=[cluster_facts.node_info(one) for one in self.facts.nodes or []],
            apis=sorted({f"{group}/{version}" for group, version, _ in self.facts.served if group}),
            images=plan.needed_images(self.selection, self.options.target),
            options=self.options.target.model_dump(exclude_defaults=True),
            local_cluster=self.options.local_cluster,
        )


class Runner:
    """A run that writes its folder and its workspace. Use :meth:`open`, then :meth:`close`."""

    def __init__(
        self,
        preflight: Preflight,
        report: Callable[[str], None],
        progress: Callable[[str, int], AbstractContextManager[None]] | None = None,
    ) -> None:
        self.preflight = preflight
        self.options = preflight.options
        self.report = report
        self._progress = progress or (lambda _title, _budget: nullcontext())
        self.interrupted = ""
        self._planned = {one.check: one for one in preflight.plan}
        self._observations: dict[str, Observation | HarnessError] = {}
        self.run = Run.create(self.options.output, self._info())
        self._look_for_others()
        nodes = len(preflight.facts.usable_nodes(self.options.target))
        longest = plan.longest(preflight.selection, preflight.profile, nodes)
        self.workspace = Workspace(
            preflight.cluster,
            self.options.target,
            run_id=preflight.run_id,
            until=time.time() + longest + preflight.profile.number("cleanup.seconds"),
            cleanup_seconds=preflight.profile.number("cleanup.seconds"),
        )
        self._opened = False
        self._others: OtherRuns | None = None

    def _info(self) -> RunInfo:
        before = self.preflight
        return RunInfo(
            id=before.run_id,
            suite_version=__version__,
            started=now(),
            kubernetes_minor=programme.checklist_for(before.facts.version),
            profile=before.profile.model_dump(mode="json"),
            selection=[check.id for _, check in before.selection],
            objective=[one.value for one in self.options.fail_on],
            environment=before.environment(),
            topics=[topic.info() for topic in topics()],
            checks=[topic.check_info(check) for topic, check in all_checks()],
            plan=before.plan,
        )

    def _look_for_others(self) -> None:
        """Note other runs at work: of two that overlap, each sees the other at its start or end."""
        before = self.preflight
        try:
            there = runs_at_work(before.cluster, before.run_id, self.options.target.namespace)
        except HarnessError:
            return  # whoever needs the server next tells this better
        moment = now()
        self._note_others([OtherRun(id=one, first=moment, last=moment) for one in there])

    def _note_others(self, there: Sequence[OtherRun]) -> None:
        """Put other runs into the run's head: each once, with all of the time it was seen in."""
        known = {one.id: one for one in self.run.info.beside}
        if new := [one.id for one in there if one.id not in known]:
            self.report(
                f"another kar-checks run ({', '.join(new)}) is active on this cluster; "
                "results may be affected"
            )
        for one in there:
            before = known.get(one.id, one)
            known[one.id] = one.model_copy(update={"first": before.first or one.first})
        if there:
            self.run.update(beside=list(known.values()))

    # -- planning ---------------------------------------------------------------------------

    def planned(self, check: str) -> PlannedCheck:
        """Return a check's plan; one that does not run gets its finding at once."""
        found = self._planned[check]
        if not found.runs and found.outcome is not None:
            self.run.add_findings(
                [
                    Finding(
                        check=check,
                        outcome=found.outcome,
                        reason=found.reason,
                        summary=found.message,
                        help=found.help,
                    )
                ]
            )
        return found

    # -- measuring --------------------------------------------------------------------------

    def measure(self, topic: Topic) -> Observation:
        """Run a topic's trial, once for all of its selected checks, and store what it saw.

        Raises:
            HarnessError: nothing could be measured; every check of the trial gets that error.
        """
        if topic.id not in self._observations:
            self._observations[topic.id] = self._measure(topic)
        found = self._observations[topic.id]
        if isinstance(found, HarnessError):
            raise found
        return found

    def _measure(self, topic: Topic) -> Observation | HarnessError:
        cluster = self.preflight.cluster
        chosen = frozenset(
            check.id
            for one, check in self.preflight.selection
            if one.id == topic.id and self._planned[check.id].runs
        )
        began, requests = time.monotonic(), cluster.requests
        cluster.work_for(topic.id)
        nodes = len(self.preflight.facts.usable_nodes(self.options.target))
        most = plan.most_seconds(topic, chosen, self.preflight.profile, nodes)
        try:
            with self._progress(topic.title, round(most)):
                self._open_workspace()
                mark = len(self.workspace.mutations), len(self.workspace.made)
                trial = Trial(
                    cluster=cluster,
                    workspace=self.workspace,
                    facts=self.preflight.facts,
                    profile=self.preflight.profile,
                    selected=chosen,
                    report=self.report,
                    keep=lambda name, record: self.run.keep_part(topic.id, name, record),
                    evidence=lambda name, text: self.run.evidence(
                        f"{topic.id}/{name}", redact(text)
                    ),
                )
                seen = topic.run_trial(trial)
            others = self._others.seen(began) if self._others else []
            self._note_others(others)
            seen = seen.model_copy(
                update={
                    "beside": others,
                    "objects": self.workspace.made[mark[1] :],
                    "mutations": self.workspace.mutations[mark[0] :],
                    "commands": trial.commands,
                    "disturbances": [*seen.disturbances, *self._outages(began)],
                }
            )
            self.run.add_observation(seen)
        except Exception as error:
            problem = error if isinstance(error, HarnessError) else internal(error)
            self._fault(chosen, problem.fault)
            return problem
        finally:
            spent = TopicCost(
                topic=topic.id,
                seconds=round(time.monotonic() - began, 1),
                requests=cluster.requests - requests,
            )
            self.run.update(costs=[*self.run.info.costs, spent])
        return seen

    def _open_workspace(self) -> None:
        if not self._opened:
            self._opened = True
            with suppress(HarnessError):  # whoever needs the server next tells this better
                self._others = OtherRuns(
                    self.preflight.cluster, self.preflight.run_id, self.options.target.namespace
                )
            self.workspace.open(self.preflight.profile.text("namespace.pod_security"))

    def _outages(self, since: float) -> list[str]:
        """Tell each outage once, however many requests ran into it."""
        merged: list[tuple[float, float]] = []
        for start, length in sorted(self.preflight.cluster.outages.spans):
            if start < since or length < 1:
                continue
            if merged and start <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(merged[-1][1], start + length)
            else:
                merged.append((start, start + length))
        return [f"the API server did not answer for {end - start:.0f} s" for start, end in merged]

    def _fault(self, checks: frozenset[str], fault: Fault) -> None:
        self.run.add_findings(fault_finding(check, fault) for check in sorted(checks))

    # -- judging ----------------------------------------------------------------------------

    def judge(self, topic: Topic, check: str, seen: Observation) -> list[Finding]:
        """Judge one check from a stored observation and store the findings.

        Raises:
            HarnessError: the judge has a fault; the check gets that error.
        """
        try:
            found = topic.judge_check(check, seen, self.preflight.profile)
            if not found:
                raise ValueError(f"the judge of {check} gave no finding")
        except Exception as error:
            problem = internal(error)
            self.run.add_findings([fault_finding(check, problem.fault, trial=seen.trial)])
            raise problem from error
        self.run.add_findings(found)
        return found

    # -- ending -----------------------------------------------------------------------------

    def interrupt(self, by: str) -> None:
        """Ask everything that waits to end now; what was measured is stored and judged."""
        self.interrupted = self.interrupted or by
        self.preflight.cluster.stop()

    def close(self, pytest_exit: int) -> Exit:
        """Clean up, write the head for the last time, and return the exit code."""
        cluster = self.preflight.cluster
        cluster.resume()
        cluster.work_for("cleanup")
        if self._others:
            self._note_others(self._others.seen())
            self._others.close()
        self._look_for_others()
        cleanup = self._clean()
        info = self.run.info.model_copy(
            update={"interrupted": self.interrupted, "cleanup": cleanup}
        )
        code = exits.of_run(info, self.run.findings, pytest_exit=pytest_exit)
        self.run.update(
            finished=now(), interrupted=self.interrupted, cleanup=cleanup, exit_code=int(code)
        )
        cluster.close()
        return code

    def _clean(self) -> Cleanup:
        bad = (Outcome.FAIL, Outcome.ERROR, Outcome.INCONCLUSIVE)
        if self.options.keep_on_failure and any(one.outcome in bad for one in self.run.findings):
            return self.workspace.kept()
        try:
            return self.workspace.close()
        except HarnessError as error:
            return Cleanup(
                verdict="leaked",
                message=f"{error.fault.message}; later `kar cleanup --run {self.run.info.id}`",
            )

    @property
    def folder(self) -> Path:
        """Where the run is stored."""
        return self.run.folder


def fault_finding(check: str, fault: Fault, variant: str = "", trial: str = "") -> Finding:
    """Return the finding of a check that the harness could not measure."""
    return judging.error(fault).finding(check, [], None, trial, variant=variant)


def prepare(options: Options, selection: Selection, run_id: str = "") -> Preflight:
    """Look at the target without writing to it."""
    return Preflight(options, selection, run_id or new_run_id())
