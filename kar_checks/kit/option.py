"""What one option is: the command line, plain pytest and a profile's keys are all made from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Given = Mapping[str, Any]
"""What the user gave: a value for the ``dest`` of each option."""


@dataclass(frozen=True)
class Option:
    """One option, or with a ``name`` without dashes the words that stand for themselves."""

    name: str
    help: str
    type: type[str] | type[bool] | type[float] | type[Path] = str
    many: bool = False
    default: Any = None
    """``None`` for the type's own: an empty text, false, an empty list, or no value at all."""
    metavar: str = ""
    key: str = ""
    """The profile's key for the same: ``target.FIELD`` or a setting such as ``stack.url``."""
    panel: str = ""
    """The heading of the help; a topic's option is under the topic's title."""
    environment: str = ""
    """The variable from which the command line takes it, too; plain pytest never does."""
    pytest_names: tuple[str, ...] = ()
    """Its names in plain pytest, if they are others."""

    @property
    def dest(self) -> str:
        """Its name as an identifier."""
        return self.name.strip("-").replace("-", "_")

    @property
    def start(self) -> Any:
        """The value of who does not give it."""
        if self.default is not None or self.many:
            return self.default
        return {str: "", bool: False}.get(self.type)

    def spelled(self, value: Any) -> Iterator[str]:
        """Yield the words that give it this value; none for the value that it has anyway."""
        for each in value if isinstance(value, list | tuple) else [value]:
            if each is True:
                yield self.name
            elif was_given(each) and each != self.default:
                yield f"{self.name}={each}" if self.name.startswith("-") else str(each)


def was_given(value: Any) -> bool:
    """Say whether a value is one that the user gave; zero is."""
    return value is not None and value is not False and value != ""


def spelled(options: Iterable[Option], given: Given) -> list[str]:
    """Return the words that give these options the same values again."""
    return [word for one in options for word in one.spelled(given.get(one.dest))]
