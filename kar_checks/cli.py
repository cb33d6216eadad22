"""The command ``kar``: parses, calls, maps to exit codes. Imports wait until a command needs them.

Annotations are evaluated here on purpose: typer reads them.
"""

import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kar_checks.cli_options import shared
from kar_checks.kit.option import Given
from kar_checks.run_options import CLUSTER, NAMESPACE, RUN, arguments, run_line, selection_options

if TYPE_CHECKING:
    from kar_checks.options import Options

app = typer.Typer(
    name="kar",
    help="Is this Kubernetes cluster really ready for AI workloads, and can you prove it?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        from kar_checks import __version__

        print(f"kar-checks {__version__}")
        raise typer.Exit


@app.callback()
def _kar(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Take the options that belong to no command."""


OutputOption = Annotated[Path, typer.Option(help="Where runs are stored.")]
RunArgument = Annotated[str, typer.Argument(help="A run's folder or id; default: the latest.")]
NO_CLUSTER = (
    "no cluster is named: give --kubeconfig (or KUBECONFIG), --context, --local-cluster or, in a "
    "pod, --in-cluster"
)


# What typer raises for unknown words and missing values; it names only some of the subclasses.
_UsageError: Any = typer.BadParameter.__bases__[0]


def main() -> None:
    """Run the command line, and end with a documented exit code whatever happens."""
    sys.stdout = _KeepsGoing(sys.stdout)
    sys.stderr = _KeepsGoing(sys.stderr)
    try:
        code: Any = app(prog_name="kar", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        code = _ended_by(error)
    sys.exit(int(code or 0))


def _ended_by(error: BaseException) -> int:
    """Say what ended a command, and return its exit code."""
    from kar_checks.exits import Exit

    if isinstance(error, _UsageError):
        error.show()
        return Exit.USAGE
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        _say("interrupted")
        return Exit.INTERRUPTED
    _say(*_crash(error))
    return Exit.INTERNAL


def _crash(error: BaseException) -> tuple[str, str]:
    """Keep the traceback of a defect of ours in a file; returns what to say of it."""
    from kar_checks.redact import redact

    first = (str(error).splitlines() or ["no message"])[0]
    told = f"internal error: {type(error).__name__}: {first}"
    try:
        text = redact("".join(traceback.format_exception(error)))
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", prefix="kar-error-", suffix=".txt", delete=False
        ) as file:
            file.write(f"kar {' '.join(sys.argv[1:2])}\n{text}")
    except OSError:
        return told, "this is a defect of kar-checks: please report it"
    return told, f"this is a defect of kar-checks: please report it with the file {file.name}"


class _KeepsGoing:
    """A stream whose reader may leave (``kar run | head``): a run goes on and loses nothing."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return int(self._stream.write(text))
        except BrokenPipeError:
            self._close()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._close()

    def _close(self) -> None:
        """Send whatever else is written, and what waits in the buffer, nowhere."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Turn an expected trouble into one sentence on stderr and the documented exit code."""
    from kar_checks.cluster.errors import HarnessError
    from kar_checks.exits import Exit
    from kar_checks.repeat import NothingToRepeat
    from kar_checks.store import StoreError

    try:
        with warnings.catch_warnings():
            _show_renamed_settings()
            yield
    except NothingToRepeat as error:
        print(error)
        raise typer.Exit(Exit.NOTHING) from error
    except HarnessError as error:
        _say(error.fault.message, error.fault.help)
        raise typer.Exit(Exit.PREFLIGHT) from error
    except StoreError as error:
        _say(str(error))
        raise typer.Exit(Exit.INTERNAL) from error
    except ValueError as error:
        _say(str(error).splitlines()[0])
        raise typer.Exit(Exit.USAGE) from error
    except KeyboardInterrupt as error:
        _say("interrupted")
        raise typer.Exit(Exit.INTERRUPTED) from error


def _show_renamed_settings() -> None:
    """Show the warning about a setting's old name as a sentence of ours, and others as ever."""
    from kar_checks.profile import RenamedSetting

    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, RenamedSetting):
            _say(f"warning: {message}")
        else:
            others(message, category, *where, **more)

    warnings.simplefilter("always", RenamedSetting)
    warnings.showwarning = show


def _say(message: str, advice: str = "") -> None:
    from kar_checks.words import safe

    # Names come from kubeconfigs and servers: control characters must not reach a terminal.
    print(safe(f"kar: {message}{f' ({advice})' if advice else ''}"), file=sys.stderr)


def _options(given: Given, *, cluster: bool = False) -> "Options":
    """Return the options of a run; ``cluster`` if a cluster must be named."""
    from kar_checks.run_options import build

    options = build(given)
    if cluster and not options.names_a_cluster:
        raise ValueError(NO_CLUSTER)
    return options


@app.command()
@shared(CLUSTER, selection_options, RUN)
def run(
    given: Given,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show only checks that did not pass.")
    ] = False,
) -> None:
    """Measure a cluster, judge it and render the scorecard."""
    with _one_sentence():
        from kar_checks.commands.run import run_checks

        code = run_checks(_options(given, cluster=True), quiet=quiet)
    raise typer.Exit(code)


@app.command("list")
def list_all(
    kubernetes: Annotated[
        str, typer.Option(help="A checklist version, e.g. 1.36; default: the newest.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the requirements of a Kubernetes version, and the checks."""
    with _one_sentence():
        from kar_checks.commands.catalogue import show_list

        show_list(kubernetes, as_json=as_json)


@app.command()
def explain(
    name: Annotated[str, typer.Argument(metavar="CHECK|TOPIC|REQUIREMENT|KAR|profile")],
) -> None:
    """Explain a check (what it proves, what fails it, what it needs) or the profile."""
    with _one_sentence():
        from kar_checks.commands.catalogue import explain_profile, explain_selector

        if name == "profile":
            explain_profile()
        else:
            explain_selector(name)


@app.command()
@shared(CLUSTER, selection_options)
def plan(given: Given) -> None:
    """Show which checks would run here, which would not, and why. Touches nothing."""
    with _one_sentence():
        from kar_checks.commands.before import show_plan

        code = show_plan(_options(given, cluster=True))
    raise typer.Exit(code)


@app.command()
@shared(CLUSTER, selection_options)
def doctor(
    given: Given,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Also send every manifest as a dry run and start real pods."),
    ] = False,
) -> None:
    """Find blockers on this cluster, each with the option that helps. Exits 12 if there are any."""
    with _one_sentence():
        from kar_checks.commands.doctor import examine

        options = _options(given, cluster=True)
        code = examine(options, probe=probe, line=lambda more: run_line(given, options, more))
    raise typer.Exit(code)


@app.command()
@shared([NAMESPACE], selection_options)
def rbac(
    given: Given,
    account_namespace: Annotated[str, typer.Option(help="Namespace of the ServiceAccount.")] = "",
    cleanup: Annotated[
        bool, typer.Option("--cleanup", help="Add the rights that `kar cleanup` uses.")
    ] = False,
) -> None:
    """Print the exact rights that a selection needs, as objects to apply."""
    with _one_sentence():
        from kar_checks.commands.before import print_rbac

        place = account_namespace or given["namespace"] or "default"
        print_rbac(_options(given), place, cleanup=cleanup)


images_app = typer.Typer(
    help="List, mirror and verify the images that a selection uses.", no_args_is_help=True
)
app.add_typer(images_app, name="images")


@images_app.command("list")
@shared(CLUSTER, selection_options)
def images_list(given: Given) -> None:
    """List the images of a selection, as this target would refer to them."""
    with _one_sentence():
        from kar_checks.commands import images

        images.show(_options(given))


@images_app.command("mirror")
@shared(CLUSTER, selection_options)
def images_mirror(
    given: Given,
    tool: Annotated[
        str,
        typer.Option(metavar="crane|skopeo", help="Program that copies; default: the one found."),
    ] = "",
    execute: Annotated[bool, typer.Option("--execute", help="Also run the commands.")] = False,
) -> None:
    """Print the commands that copy the images to --image-prefix, digests kept."""
    with _one_sentence():
        from kar_checks.commands import images

        code = images.mirror(_options(given), tool, execute=execute)
    raise typer.Exit(code)


@images_app.command("verify")
@shared(CLUSTER, selection_options)
def images_verify(given: Given) -> None:
    """Check that the registries serve exactly these images. Exits 11 if one cannot be queried."""
    with _one_sentence():
        from kar_checks.commands import images

        code = images.verify(_options(given))
    raise typer.Exit(code)


@app.command()
@shared(CLUSTER, selection_options)
def install(
    given: Given,
    runner: Annotated[
        str, typer.Option(help="Image that contains this suite; see docs/install.md.")
    ],
    job_namespace: Annotated[str, typer.Option(help="Namespace of the CronJob.")] = "kar-nightly",
    schedule: Annotated[str, typer.Option(help="When it runs, in cron syntax.")] = "0 2 * * *",
    keep: Annotated[int, typer.Option(help="How many runs to keep in the history.")] = 60,
    storage: Annotated[str, typer.Option(help="Size of the volume with the history.")] = "2Gi",
    storage_class: Annotated[
        str, typer.Option(help="Storage class of the volume; default: the cluster's.")
    ] = "",
    apply: Annotated[bool, typer.Option("--apply", help="Also apply it to the cluster.")] = False,
) -> None:
    """Print a CronJob that runs a selection in the cluster, with exactly the rights it needs."""
    with _one_sentence():
        from kar_checks.commands import install as made

        options = made.named(_options(given, cluster=apply))
        chosen = made.Install(
            runner=runner,
            namespace=job_namespace,
            schedule=schedule,
            keep=keep,
            storage=storage,
            storage_class=storage_class,
            words=arguments(given, options),
        )
        objects = made.objects(options, chosen)
        print(made.text(objects), end="")
        if apply:
            made.apply(objects, options)


@app.command("cleanup")
@shared(CLUSTER)
def clean_up(
    given: Given,
    run_id: Annotated[
        str, typer.Option("--run", metavar="ID", help="Remove only what this run left.")
    ] = "",
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Also delete what a live run owns.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list.")] = False,
) -> None:
    """Find and remove what killed runs left behind, including cluster-scoped objects."""
    with _one_sentence():
        from kar_checks.commands.cleanup import remove_leftovers

        options = _options(given, cluster=True)
        code = remove_leftovers(options, run_id=run_id, yes=yes, dry_run=dry_run)
    raise typer.Exit(code)


@app.command()
def report(run: RunArgument = "latest", output: OutputOption = Path("runs")) -> None:
    """Render a stored run again; needs no cluster."""
    with _one_sentence():
        from kar_checks.commands.again import render_again

        code = render_again(run, output)
    raise typer.Exit(code)


@app.command()
def judge(
    run: RunArgument = "latest",
    profile: Annotated[Path | None, typer.Option(help="Thresholds to judge with.")] = None,
    output: OutputOption = Path("runs"),
) -> None:
    """Re-judge a stored run with another profile. Needs no cluster; keeps the original run."""
    with _one_sentence():
        from kar_checks.commands.again import judge_again

        code = judge_again(run, output, profile)
    raise typer.Exit(code)


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders or ids.")],
    output: OutputOption = Path("runs"),
    into: Annotated[Path, typer.Option(help="Folder for page, CSV and JSON.")] = Path("comparison"),
    allow_different: Annotated[
        bool,
        typer.Option(
            "--allow-different", help="Compare runs that are not alike; the page shows why."
        ),
    ] = False,
    max_days_apart: Annotated[
        float, typer.Option(min=0, help="Runs further apart are not alike.")
    ] = 7,
    key: Annotated[
        list[Path] | None, typer.Option(help="Public key (PEM) to verify signed runs with.")
    ] = None,
) -> None:
    """Show stored runs side by side, differences first; the first is the base for figures."""
    with _one_sentence():
        from kar_checks.commands.series import compare_runs

        code = compare_runs(
            runs,
            output,
            into,
            allow_different=allow_different,
            most_days_apart=max_days_apart,
            keys=key or (),
        )
    raise typer.Exit(code)


@app.command()
def regress(
    output: OutputOption = Path("runs"),
    into: Annotated[
        Path | None, typer.Option(help="Folder for page, JSON, summary and metrics.")
    ] = None,
) -> None:
    """Compare the latest run with its history. Exits 1 if anything regressed."""
    with _one_sentence():
        from kar_checks.commands import series

        code = series.regress(output, into or output / "history")
    raise typer.Exit(code)


@app.command()
def metrics(
    file: Annotated[
        Path, typer.Argument(help="kar.prom of `kar regress`, or fleet.prom of `kar fleet`.")
    ] = Path("runs/history/kar.prom"),
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS:PORT", help="Address to serve on.")
    ] = "127.0.0.1:9464",
) -> None:
    """Serve the latest metrics at /metrics for a scraper, until interrupted."""
    with _one_sentence():
        from kar_checks.commands.metrics import serve_until_told

        serve_until_told(file, listen)


@app.command()
def prune(
    keep: Annotated[int, typer.Option(help="How many runs of each cluster to keep.")],
    output: OutputOption = Path("runs"),
) -> None:
    """Remove the oldest runs of a history."""
    with _one_sentence():
        from kar_checks.commands import series

        code = series.prune(output, keep)
    raise typer.Exit(code)


@app.command()
def sign(
    key: Annotated[Path, typer.Option(help="Private key (PEM: Ed25519, ECDSA or RSA).")],
    run: RunArgument = "latest",
    output: OutputOption = Path("runs"),
) -> None:
    """Sign a run: an in-toto test result over its files, in a DSSE envelope beside them."""
    with _one_sentence():
        from kar_checks import statement
        from kar_checks.store import StoredRun, find_run

        print(statement.sign(StoredRun(find_run(run, output)), key))


@app.command()
def verify(
    key: Annotated[Path, typer.Option(help="Public key (PEM) of the signer.")],
    run: RunArgument = "latest",
    output: OutputOption = Path("runs"),
) -> None:
    """Verify a run's signature and list every file that changed since it was signed."""
    with _one_sentence():
        from kar_checks import statement
        from kar_checks.exits import Exit
        from kar_checks.store import find_run

        found = statement.verify(find_run(run, output), key)
        for one in found.changed:
            print(one)
        for one in found.uncovered:
            print(f"{one} is not covered: it was rendered after signing")
        if found.changed:
            raise typer.Exit(Exit.FAILED)
        print(
            f"All {len(found.covered)} signed files are unchanged since key {found.key[:16]} "
            f"signed them; the result: {found.result}"
        )


@app.command()
def attest(
    requirement: Annotated[str, typer.Argument(help="Id of a requirement, see `kar list`.")],
    who: Annotated[str, typer.Option(help="Who saw it.")],
    date: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="When it was seen.")],
    text: Annotated[str, typer.Option(help="What was seen.")] = "",
    link: Annotated[str, typer.Option(help="Where it can be read.")] = "",
    file: Annotated[Path | None, typer.Option(help="A file to keep with it.")] = None,
    run: Annotated[str, typer.Option(help="A run's folder or id.")] = "latest",
    output: OutputOption = Path("runs"),
) -> None:
    """Add manual evidence to a requirement of a stored run. Changes no outcome."""
    with _one_sentence():
        from kar_checks.commands.add import add_attested

        add_attested(run, output, requirement, who=who, on=date, text=text, link=link, file=file)


@app.command()
def official(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="junit.xml, results.json or e2e.log of the programme's suite; *.log (what it "
            "printed) or *.yaml (its report) of the inference extension's.",
        ),
    ],
    run: Annotated[str, typer.Option(help="A run's folder or id.")] = "latest",
    output: OutputOption = Path("runs"),
) -> None:
    """Show results of official Go suites beside a stored run. Changes no outcome."""
    with _one_sentence():
        from kar_checks.commands.add import add_official

        add_official(run, output, files)


submission_app = typer.Typer(
    help="Fill the programme's checklist from a run, and check a filled one.",
    no_args_is_help=True,
)
app.add_typer(submission_app, name="submission")


@submission_app.command("new")
def submission_new(
    target: Annotated[Path, typer.Option(help="Folder of the product, such as v1.37/acme.")],
    checklist: Annotated[
        Path | None,
        typer.Option(help="Your copy of the programme's checklist; needed the first time only."),
    ] = None,
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Folders or ids of runs; default: the latest."),
    ] = None,
    output: OutputOption = Path("runs"),
    answers: Annotated[
        Path | None, typer.Option(help="What only you know (YAML): metadata, attested items.")
    ] = None,
    evidence_base_url: Annotated[
        str, typer.Option(help="Cite evidence by URL under this one instead of by path.")
    ] = "",
    redact: Annotated[
        bool, typer.Option("--redact", help="Hide node names and addresses in the evidence.")
    ] = False,
    max_age_days: Annotated[int, typer.Option(min=1, help="Refuse a run older than this.")] = 90,
) -> None:
    """Fill a checklist from runs and write its evidence; replaces only what it wrote itself."""
    with _one_sentence():
        from kar_checks.commands.submission import new

        code = new(
            runs or ["latest"],
            output,
            checklist,
            target,
            answers_file=answers,
            base_url=evidence_base_url,
            redacted=redact,
            max_age_days=max_age_days,
        )
    raise typer.Exit(code)


@submission_app.command("check")
def submission_check(
    file: Annotated[Path, typer.Argument(help="A filled PRODUCT.yaml.")],
    rules: Annotated[
        str, typer.Option(metavar="strict|hybrid", help="Validator; default: hybrid, the newer.")
    ] = "",
    online: Annotated[
        bool, typer.Option("--online", help="Request each URL, as the validator does.")
    ] = False,
) -> None:
    """Check a filled checklist against the validator's rules; print line and column of problems."""
    with _one_sentence():
        from kar_checks.commands.submission import check_file, generation

        code = check_file(file, generation(rules), online=online)
    raise typer.Exit(code)


fleet_app = typer.Typer(help="Assess many clusters and render one overview.", no_args_is_help=True)
app.add_typer(fleet_app, name="fleet")


@fleet_app.command("run")
def fleet_run(
    file: Annotated[Path, typer.Argument(help="The fleet's clusters (YAML); docs/fleet.md.")],
    output: Annotated[Path, typer.Option(help="Where results are stored.")] = Path("fleet"),
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this cluster.")
    ] = None,
    resume_hours: Annotated[
        float, typer.Option(min=0, help="Skip clusters that reported within this time.")
    ] = 0,
) -> None:
    """Assess the clusters of a file, several at a time, and render the overview."""
    with _one_sentence():
        from kar_checks.commands import fleet

        code = fleet.run(file, output, only or (), resume_hours)
    raise typer.Exit(code)


@fleet_app.command("report")
def fleet_report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Results as FOLDER/CLUSTER/RUN.")
    ],
    file: Annotated[
        Path | None, typer.Option(help="The fleet's file, to list missing clusters.")
    ] = None,
    into: Annotated[Path, typer.Option(help="Folder for page, JSON and metrics.")] = Path("fleet"),
    stale_after_hours: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="Age from which a last run is stale; default: the file's, or 36."
        ),
    ] = None,
) -> None:
    """Render the overview from existing results."""
    with _one_sentence():
        from kar_checks.commands import fleet

        code = fleet.report(folders, file, into, stale_after_hours)
    raise typer.Exit(code)


@app.command(
    "cluster",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
    help="Build, start and remove the embedded cluster: up, status, down, logs, kubeconfig.",
)
def local(context: typer.Context) -> None:
    """Hand the rest of the command line to the embedded cluster."""
    try:
        from localcluster.cli import app as cluster_app
    except ModuleNotFoundError as error:
        if error.name != "fcntl":
            raise
        _say(
            "the local cluster needs Linux; this is Windows",
            "`kar run --kubeconfig FILE` can assess any cluster from here, such as one of kind or "
            "k3d: docs/laptop.md",
        )
        raise typer.Exit(1) from error

    cluster_app(args=context.args, prog_name="kar cluster")


if __name__ == "__main__":
    main()
