"""YAML of users: the safe subset, and no document that grows without end when it is read."""

from __future__ import annotations

from typing import Any

import yaml

MOST_NODES = 200_000
"""Values that a document may hold once its aliases are followed; a checklist has a few hundred."""
MOST_LEVELS = 100


class TooLargeError(yaml.YAMLError):
    """A document whose aliases or levels multiply beyond what anybody writes by hand."""


def parse(text: str | bytes) -> Any:
    """Return what a YAML document says, as :func:`yaml.safe_load` does.

    Raises:
        yaml.YAMLError: it is not YAML, or too large once its aliases are followed.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = _composed(loader.get_single_node)
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def compose(text: str) -> yaml.Node | None:
    """Return the nodes of a document with their places, as :func:`yaml.compose` does.

    Raises:
        yaml.YAMLError: it is not YAML, or too large once its aliases are followed.
    """
    return _composed(lambda: yaml.compose(text, Loader=yaml.SafeLoader))


def _composed(read: Any) -> yaml.Node | None:
    try:
        node: yaml.Node | None = read()
    except RecursionError as error:
        raise TooLargeError("it is nested too deeply") from error
    if node is not None:
        _Size().of(node, 0)
    return node


class _Size:
    """Counts what a document comes to; each node is looked at once."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        self._open: set[int] = set()

    def of(self, node: yaml.Node, level: int) -> int:
        if level > MOST_LEVELS:
            raise TooLargeError(f"it is nested more than {MOST_LEVELS} levels deep")
        if id(node) in self._open:
            raise TooLargeError("an alias refers to what holds it")
        if id(node) not in self._known:
            self._open.add(id(node))
            total = 1 + sum(self.of(one, level + 1) for one in _children(node))
            self._open.remove(id(node))
            if total > MOST_NODES:
                raise TooLargeError(f"its aliases come to more than {MOST_NODES:,} values")
            self._known[id(node)] = total
        return self._known[id(node)]


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
