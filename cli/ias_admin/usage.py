"""`ias-admin usage`: what was spent on what, and by whom."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from ias_sdk.ias.metering import v1 as metering

from ias_admin import names, values
from ias_admin.client import pages
from ias_admin.command import Ias, say
from ias_admin.errors import CliError, wrong_usage
from ias_admin.output import Column, Format, Record, View, record, thousands, write

EXAMPLES = [
    "ias-admin usage --by model,user --last 30d",
    "ias-admin usage --org acme --by day --from 2026-11-01 --to 2026-12-01",
    "ias-admin usage --by key --export november.csv",
]

_BY = {
    "day": (Column("Day", "day", lambda day: day[:10]), ("day",)),
    "model": (Column("Model", "model"), ("model",)),
    "user": (Column("User", "user"), ("user_id", "user_email")),
    "key": (Column("API key", "key"), ("api_key_id", "api_key_name")),
    "organization": (
        Column("Organisation", "organization"),
        ("organization_id", "organization_name"),
    ),
}
"""What usage may be grouped by: its column in tables, its fields elsewhere."""

_SUMS = (
    "requests",
    "failed_requests",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "total_tokens",
    "cost_nanos",
)

_COLUMNS = (
    Column("Requests", "requests", thousands, right=True),
    Column("Failed", "failed_requests", thousands, right=True),
    Column("Prompt", "prompt_tokens", thousands, right=True),
    Column("Answer", "completion_tokens", thousands, right=True),
    Column("Cached", "cached_tokens", thousands, right=True),
    Column("Tokens", "total_tokens", thousands, right=True),
    Column("Cost", "cost", right=True),
)


def usage(
    ias: Ias,
    *,
    org: Annotated[
        str | None,
        typer.Option(metavar="ORG", help="Its name or id; your own, or all for a System Admin."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Group by model, user, key, day, organization."),
    ] = None,
    last: Annotated[
        str | None, typer.Option(metavar="SPAN", help="The time until now: 24h, 30d, 12w.")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="From when, in UTC, by the hour.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(metavar="DATE", help="Until when; that moment is not included.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    user: Annotated[
        str | None, typer.Option(metavar="USER", help="Only of this person: e-mail or id.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Only of this API key: name or id.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write to a .csv, .json or .yaml file.")
    ] = None,
) -> None:
    """Show requests, tokens and cost; the last 30 days if no time is given.

    With --quiet, only the tokens of each group.
    """
    dimensions = _dimensions(by)
    exported = _export_format(export) if export else None
    begin, until = _span(last, from_, to)
    organization_id = names.organization_id(ias.stubs, org)
    request = metering.QueryUsageRequest(
        organization_id=organization_id,
        group_by=[metering.UsageDimension[name.upper()] for name in dimensions],
        from_=begin,
        to=until,
        model=model or "",
        user_id=names.user(ias.stubs, user).id if user else "",
        api_key_id=names.api_key(ias.stubs, key).id if key else "",
        page_size=1000,
    )
    found = list(pages(ias.stubs.usage.query_usage, request, "rows"))
    rows = _rows(ias, found, dimensions, organization_id)
    view = _view(dimensions)
    if export and exported:
        _export(export, exported, view, rows)
        return
    if ias.printer.is_table and dimensions and len(rows) > 1:
        rows.append(_total(rows, dimensions[0]))
    ias.printer.many(view, rows)


def _dimensions(by: str | None) -> list[str]:
    """In the order asked for, each once."""
    asked = list(dict.fromkeys(name.lower() for name in values.names(by)))
    for name in asked:
        if name not in _BY:
            raise wrong_usage(f"Usage can't be grouped by {name!r}.", f"By: {', '.join(_BY)}.")
    return asked


def _span(
    last: str | None, begin: str | None, until: str | None
) -> tuple[datetime | None, datetime | None]:
    if last and (begin or until):
        raise wrong_usage("--last goes without --from and --to.", "Give the one or the others.")
    if last:
        return values.ago(last), None
    return values.moment(begin) if begin else None, values.moment(until) if until else None


def _view(dimensions: Sequence[str]) -> View:
    return View(
        identifier="total_tokens",
        columns=(*(_BY[name][0] for name in dimensions), *_COLUMNS),
        fields=(*(field for name in dimensions for field in _BY[name][1]), *_SUMS, "cost"),
    )


def _rows(
    ias: Ias, found: Sequence[metering.UsageRow], dimensions: Sequence[str], organization_id: str
) -> list[Record]:
    """With names beside the ids that usage is kept by, and no column that was not asked for."""
    directory = names.Directory(ias.stubs)
    named = {} if ias.printer.quiet else dict.fromkeys(dimensions)
    emails = (
        directory.users((row.user_id for row in found), organization_id) if "user" in named else {}
    )
    keys = (
        directory.api_keys((row.api_key_id for row in found), organization_id)
        if "key" in named
        else {}
    )
    tenants = (
        directory.organizations(row.organization_id for row in found)
        if "organization" in named
        else {}
    )
    rows = []
    for row in found:
        all_fields = record(row) | {
            "user_email": emails.get(row.user_id),
            "api_key_name": keys.get(row.api_key_id),
            "organization_name": tenants.get(row.organization_id),
            "cost": values.money(row.cost_nanos),
        }
        rows.append({name: all_fields[name] for name in _view(dimensions).fields})
    if ias.printer.is_table:
        for shown in rows:
            shown["user"] = shown.get("user_email") or shown.get("user_id")
            shown["key"] = shown.get("api_key_name") or shown.get("api_key_id")
            shown["organization"] = shown.get("organization_name") or shown.get("organization_id")
    return rows


def _total(rows: Sequence[Record], first: str) -> Record:
    """The last line of a table."""
    total: Record = {name: sum(row[name] for row in rows) for name in _SUMS}
    total["cost"] = values.money(total["cost_nanos"])
    return total | {_BY[first][0].key: "Total"}


def _export_format(path: Path) -> Format:
    found = {".csv": Format.CSV, ".json": Format.JSON, ".yaml": Format.YAML, ".yml": Format.YAML}
    try:
        return found[path.suffix.lower()]
    except KeyError:
        raise wrong_usage(
            f"{path} has no format that usage is exported in.", "End it in .csv, .json or .yaml."
        ) from None


def _export(path: Path, form: Format, view: View, rows: list[Record]) -> None:
    wanted = [{name: row[name] for name in view.fields} for row in rows]
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            write(form, view, wanted, file)
    except OSError as error:
        raise CliError(f"{path} can't be written: {error.strerror}.") from None
    say(f"{len(rows)} rows written to {path}.")
