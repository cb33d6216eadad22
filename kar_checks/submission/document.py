"""The programme's checklist file as text with known places, so that edits touch nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kar_checks import plain_yaml

STATUSES = ("Implemented", "Not Implemented", "Partially Implemented", "N/A")
#: What a person or this suite may fill; everything else of an item belongs to the programme.
FILLED = ("status", "evidence", "notes")


class ChecklistError(ValueError):
    """A file that is no checklist, in one sentence with its line and column."""


@dataclass(frozen=True)
class Field:
    """A value with its place: offsets in the text, and line and columns that count from 1."""

    value: Any
    start: int
    end: int
    line: int
    column: int
    key_column: int

    @property
    def empty(self) -> bool:
        """Whether nobody has written anything here yet."""
        return self.value is None or self.value == [] or str(self.value).strip() == ""

    @property
    def placeholder(self) -> bool:
        """Whether it still holds the template's ``[Platform Name]``."""
        text = str(self.value).strip()
        return isinstance(self.value, str) and text.startswith("[") and text.endswith("]")


@dataclass(frozen=True)
class Item:
    """One requirement of the checklist, with its fields by name."""

    id: str
    section: str
    fields: Mapping[str, Field]
    line: int
    column: int

    def text(self, name: str) -> str:
        """Return a field as text; empty if it is not there."""
        field = self.fields.get(name)
        return "" if field is None or field.value is None else str(field.value)


@dataclass(frozen=True)
class Edit:
    """Replace the text from ``start`` to ``end``."""

    start: int
    end: int
    text: str


class Checklist:
    """A checklist as it was read. Nothing changes the text; :meth:`edited` returns a new one."""

    def __init__(self, text: str, name: str = "the checklist") -> None:
        """Read a checklist.

        Raises:
            ChecklistError: it is not YAML, or not a checklist.
        """
        self.text = text
        self.name = name
        root = _parse(text, name)
        top = dict(_entries(root, name, "the file"))
        self.metadata: dict[str, Field] = {}
        if "metadata" not in top or "spec" not in top:
            raise ChecklistError(
                f"{name} is not a checklist of the programme: it has no `metadata` and `spec`"
            )
        for key, node in _entries(top["metadata"][1], name, "metadata"):
            self.metadata[key] = _field(*node)
        self.items = list(self._read_items(top["spec"][1]))

    @classmethod
    def load(cls, path: Path) -> Checklist:
        """Read a file.

        Raises:
            ChecklistError: it cannot be read, is not YAML, or not a checklist.
        """
        try:
            # Line ends are kept as they are: nothing may change but what is filled in.
            return cls(path.read_bytes().decode("utf-8"), str(path))
        except OSError as error:
            raise ChecklistError(f"{path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ChecklistError(f"{path} is not UTF-8 text") from error

    def item(self, requirement: str) -> Item | None:
        """Return the item of a requirement."""
        return next((one for one in self.items if one.id == requirement), None)

    def metadata_field(self, name: str) -> Field | None:
        """Return a metadata field, in camelCase or snake_case."""
        return next((f for key, f in self.metadata.items() if plain(key) == plain(name)), None)

    def filled(self, item: Item, name: str, value: str | Sequence[str]) -> Edit:
        """Return the edit that writes a value into an empty field of an item.

        Raises:
            ChecklistError: the item has no such field, or somebody wrote something there.
        """
        field = item.fields.get(name)
        if field is None:
            raise ChecklistError(
                f"{self.name}, line {item.line}, column {item.column}: "
                f"{item.id} has no field `{name}` to fill"
            )
        if not field.empty:
            raise ChecklistError(
                f"{self.name}, line {field.line}, column {field.column}: `{name}` of {item.id} "
                "was written by a person and is not touched"
            )
        if isinstance(value, str):
            return self._written(field, value)
        indent = " " * (field.key_column + 1)
        start = len(self.text[: field.start].rstrip(" "))
        lines = "".join(f"{self._line_end}{indent}- {_quoted(one)}" for one in value)
        return Edit(start, field.end, lines)

    def replaced(self, item: Item, name: str, value: str | Sequence[str]) -> Edit:
        """Return the edit that puts a value in the place of one that this suite wrote itself."""
        field = item.fields[name]
        start = len(self.text[: field.start].rstrip())
        end = start + len(self.text[start : field.end].rstrip())
        if isinstance(value, str):
            return Edit(start, end, f" {_quoted(value)}")
        indent = f"{self._line_end}{' ' * (field.key_column + 1)}"
        return Edit(
            start, end, "".join(f"{indent}- {_quoted(one)}" for one in value) or f"{indent}[]"
        )

    def with_metadata(self, name: str, value: str) -> Edit:
        """Return the edit that writes a metadata value, at its place or after the last one.

        Raises:
            ChecklistError: somebody wrote something there.
        """
        field = self.metadata_field(name)
        if field is not None:
            if not field.empty and not field.placeholder:
                raise ChecklistError(
                    f"{self.name}, line {field.line}, column {field.column}: metadata `{name}` was "
                    "written by a person and is not touched"
                )
            return self._written(field, value)
        last = max(self.metadata.values(), key=lambda one: one.end)
        end = self.text.find("\n", last.end)
        end = len(self.text) if end < 0 else end
        at = len(self.text[:end].rstrip("\r"))
        indent = " " * (last.key_column - 1)
        return Edit(at, at, f"{self._line_end}{indent}{name}: {_quoted(value)}")

    def _written(self, field: Field, value: str) -> Edit:
        """Put a text in a field's place; a key with nothing behind its colon needs a blank."""
        blank = " " if self.text[: field.start].endswith(":") else ""
        return Edit(field.start, field.end, f"{blank}{_quoted(value)}")

    def edited(self, edits: Sequence[Edit]) -> str:
        """Return the text with the edits made; everything else stays byte for byte."""
        text = self.text
        for one in sorted(edits, key=lambda edit: edit.start, reverse=True):
            text = text[: one.start] + one.text + text[one.end :]
        return text

    @property
    def _line_end(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"

    def _read_items(self, spec: yaml.Node) -> Iterator[Item]:
        for section, (_, node) in _entries(spec, self.name, "spec"):
            if not isinstance(node, yaml.SequenceNode):
                raise _at(node, self.name, f"section {section} of `spec` is not a list")
            for entry in node.value:
                fields = {
                    key: _field(*pair)
                    for key, pair in _entries(entry, self.name, f"an item of {section}")
                }
                if "id" not in fields or not isinstance(fields["id"].value, str):
                    raise _at(entry, self.name, f"an item of {section} has no `id`")
                mark = entry.start_mark
                yield Item(
                    id=fields["id"].value,
                    section=section,
                    fields=fields,
                    line=mark.line + 1,
                    column=mark.column + 1,
                )


def plain(name: str) -> str:
    """Return a metadata name as the programme compares it: camelCase and snake_case are one."""
    return name.replace("_", "").lower()


# What YAML does not let through as it is, and what its readers take for the end of a line.
_ESCAPED = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


def _quoted(text: str) -> str:
    # A JSON string is a YAML one, and never mistaken for a number, a date or a comment.
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    quoted = json.dumps(whole, ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)


def _parse(text: str, name: str) -> yaml.Node:
    try:
        root = plain_yaml.compose(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ChecklistError(f"{name}{where}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ChecklistError(f"{name}: not valid YAML: {str(error).splitlines()[0]}") from error
    if root is None:
        raise ChecklistError(f"{name} is empty")
    return root


def _entries(
    node: yaml.Node, name: str, what: str
) -> Iterator[tuple[str, tuple[yaml.Node, yaml.Node]]]:
    if not isinstance(node, yaml.MappingNode):
        raise _at(node, name, f"{what} is not a mapping")
    seen: set[str] = set()
    for key, value in node.value:
        text = str(key.value)
        if text in seen:
            raise _at(key, name, f"`{text}` appears twice in {what}")
        seen.add(text)
        yield text, (key, value)


def _field(key: yaml.Node, node: yaml.Node) -> Field:
    loader = yaml.SafeLoader("")
    try:
        value = loader.construct_document(node)
    finally:
        loader.dispose()
    mark = node.start_mark
    return Field(
        value=value,
        start=mark.index,
        end=node.end_mark.index,
        line=mark.line + 1,
        column=mark.column + 1,
        key_column=key.start_mark.column + 1,
    )


def _at(node: yaml.Node, name: str, problem: str) -> ChecklistError:
    mark = node.start_mark
    return ChecklistError(f"{name}, line {mark.line + 1}, column {mark.column + 1}: {problem}")
