"""The options of ``run_options`` as typer takes them: a command gets them as one parameter.

Annotations are evaluated here on purpose: typer reads them.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any, get_type_hints

import typer

from kar_checks.kit.option import Given, Option

Options = Iterable[Option] | Callable[[], Iterable[Option]]


def shared(*groups: Options) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these options, as its first parameter; its own come after them.

    A group that is a function is asked when the command line is read: topics are loaded then.
    """
    return lambda command: _Command(command, groups)


class _Command:
    """A command whose signature typer reads, with a parameter for each option."""

    def __init__(self, command: Callable[..., None], groups: tuple[Options, ...]) -> None:
        self.__name__ = command.__name__
        self.__doc__ = command.__doc__
        self._command = command
        self._groups = groups

    def __call__(self, **given: Any) -> None:
        names = {one.dest for one in self._options()}
        shared_ones: Given = {name: value for name, value in given.items() if name in names}
        own = {name: value for name, value in given.items() if name not in names}
        self._command(shared_ones, **own)

    def _options(self) -> list[Option]:
        return [
            option for group in self._groups for option in (group() if callable(group) else group)
        ]

    @property
    def __signature__(self) -> inspect.Signature:
        hints = get_type_hints(self._command, include_extras=True)
        _, *own = inspect.signature(self._command).parameters.values()
        parameters = [
            *(_parameter(one) for one in self._options()),
            *(one.replace(annotation=hints[one.name]) for one in own),
        ]
        keyword = inspect.Parameter.KEYWORD_ONLY
        return inspect.Signature([one.replace(kind=keyword) for one in parameters])

    @property
    def __annotations__(self) -> dict[str, Any]:  # type: ignore[override]
        return {one.name: one.annotation for one in self.__signature__.parameters.values()}


def _parameter(option: Option) -> inspect.Parameter:
    more: dict[str, Any] = {"help": option.help, "metavar": option.metavar or None}
    if option.name.startswith("-"):
        more |= {"rich_help_panel": option.panel or None, "envvar": option.environment or None}
        about = typer.Option(option.name, **more)
    else:
        about = typer.Argument(show_default=False, **more)
    kind: Any = list[option.type] if option.many else option.type  # type: ignore[name-defined]
    if option.start is None:
        kind = kind | None
    return inspect.Parameter(
        option.dest,
        inspect.Parameter.KEYWORD_ONLY,
        default=option.start,
        annotation=Annotated[kind, about],
    )
