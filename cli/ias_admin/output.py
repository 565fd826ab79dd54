"""What is printed: tables for people; JSON, YAML and CSV for programs.

A *record* is a message as JSON has it: snake_case keys, enums as short lower-case names, times in
RFC 3339, lists as arrays, null for what is unset. A *view* says which of its parts a table shows.
"""

import csv
import dataclasses
import io
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TextIO, cast

import betterproto2
import yaml
from ias_sdk.google.protobuf import ListValue, Struct, Value
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ias_admin import values

Record = dict[str, Any]


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    CSV = "csv"


@dataclass(frozen=True)
class Column:
    """A column of a table, or a line when there is a single thing."""

    title: str
    key: str
    """Of the record; with dots for what is nested."""
    text: Callable[[Any], str] | None = None
    """How the value is shown; as it is, when None. Never called for None."""
    right: bool = False


@dataclass(frozen=True)
class View:
    """How one kind of thing is printed."""

    identifier: str
    """The key that --quiet prints."""
    columns: Sequence[Column]
    details: Sequence[Column] = ()
    """Shown on top of `columns` when there is a single thing."""
    fields: Sequence[str] = ()
    """The columns of CSV: keys, with dots for what is nested."""


def record(message: betterproto2.Message) -> Record:
    """The message as JSON has it."""
    # Every message is a dataclass, which its base class doesn't say.
    fields = dataclasses.fields(cast(Any, message))
    return {field.name.rstrip("_"): _plain(getattr(message, field.name)) for field in fields}


def _plain(value: Any) -> Any:
    match value:
        case Struct():
            plain: Any = {key: _plain_value(part) for key, part in value.fields.items()}
        case betterproto2.Message():
            plain = record(value)
        case betterproto2.Enum():
            plain = (value.name or str(value.value)).lower()
        case datetime():
            plain = values.iso(value)
        case list():
            plain = [_plain(part) for part in value]
        case _:
            plain = value
    return plain


def _plain_value(value: Value) -> Any:
    """What a google.protobuf.Value holds. JSON has one kind of number, and ids are whole."""
    kind, held = betterproto2.which_one_of(value, "kind")
    match kind, held:
        case "struct_value", Struct():
            return _plain(held)
        case "list_value", ListValue():
            return [_plain_value(part) for part in held.values]
        case "number_value", float() if held.is_integer():
            return int(held)
        case "null_value", _:
            return None
    return held


class Printer:
    """Prints records on stdout, in one format."""

    def __init__(self, form: Format, *, quiet: bool) -> None:
        self.form = form
        self.quiet = quiet

    @property
    def is_table(self) -> bool:
        """Whether a person reads the result, to whom hints may be given."""
        return self.form is Format.TABLE and not self.quiet

    def many(self, view: View, records: Iterable[Record]) -> None:
        """A list. `records` may be lazy."""
        rows = list(records)
        if self.quiet:
            _lines(str(row[view.identifier]) for row in rows)
        elif self.form is Format.TABLE:
            _console().print(_listing(view, rows))
        else:
            write(self.form, view, rows, sys.stdout)

    def one(self, view: View, row: Record) -> None:
        """A single thing."""
        if self.quiet:
            _lines([str(row[view.identifier])])
        elif self.form is Format.TABLE:
            _console().print(_details(view, row))
        elif self.form is Format.CSV:
            write(self.form, view, [row], sys.stdout)
        else:
            write(self.form, view, row, sys.stdout)


def write(form: Format, view: View, content: Record | list[Record], out: TextIO) -> None:
    """Writes what is for programs. CSV takes a list."""
    if form is Format.JSON:
        out.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    elif form is Format.YAML:
        out.write(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    else:
        rows = [content] if isinstance(content, dict) else content
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(view.fields)
        writer.writerows([_cell(_at(row, key)) for key in view.fields] for row in rows)
        out.write(text.getvalue())


def _at(row: Record, key: str) -> Any:
    found: Any = row
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _cell(value: Any) -> str:
    """A value of CSV."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case list():
            return " ".join(str(part) for part in value)
        case dict():
            return json.dumps(value, ensure_ascii=False)
    return str(value)


def _shown(column: Column, row: Record) -> Text:
    """A value of a table; what would steer the terminal or the markup is taken out."""
    value = _at(row, column.key)
    if value is None or value in ("", []):
        return Text("-", style="dim")
    text = column.text(value) if column.text else _cell(value)
    return Text(printable(text))


def printable(text: str) -> str:
    """Text that others wrote, without the characters that steer a terminal."""
    return "".join(sign for sign in text if sign in "\n\t" or sign.isprintable())


def _listing(view: View, rows: Sequence[Record]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in view.columns:
        table.add_column(
            column.title.upper(), justify="right" if column.right else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(_shown(column, row) for column in view.columns))
    return table


def _details(view: View, row: Record) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for column in (*view.columns, *view.details):
        table.add_row(column.title, _shown(column, row))
    return table


def _console() -> Console:
    # A pipe has no width: nothing may be folded there, or grep and cut would miss it.
    return Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)


def _lines(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")


def thousands(value: int) -> str:
    """1,234,567"""
    return f"{value:,}"


def time(value: str) -> str:
    """RFC 3339, to the second."""
    return value[:19] + "Z" if len(value) > 20 and value.endswith("Z") else value


def joined(value: Sequence[str]) -> str:
    """a, b, c"""
    return ", ".join(value)
