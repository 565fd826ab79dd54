"""`ias-admin budget`: how many tokens may be spent in a month."""

from typing import Annotated

import typer
from ias_sdk.google.protobuf import FieldMask
from ias_sdk.ias.metering import v1 as metering

from ias_admin import names, values
from ias_admin.command import Ias, command, group
from ias_admin.errors import wrong_usage
from ias_admin.output import Column, Record, View, record, thousands, time

app = group(
    "budget",
    "Show and set monthly token budgets of organisations, people and API keys.",
    ["ias-admin budget get --org acme", "ias-admin budget set --org acme --tokens 5M"],
)


def _limit(value: int | str) -> str:
    return value if isinstance(value, str) else thousands(value)


VIEW = View(
    identifier="remaining",
    columns=(
        Column("Of", "of"),
        Column("Limit", "limit", _limit),
        Column("Spent", "spent_tokens", thousands),
        Column("Leased", "leased_tokens", thousands),
        Column("Remaining", "remaining", _limit),
        Column("Reset day", "reset_day"),
        Column("Period began", "period_start_time", time),
        Column("Next reset", "reset_time", time),
    ),
    fields=(
        "scope.organization_id",
        "scope.user_id",
        "scope.api_key_id",
        "limit_tokens",
        "spent_tokens",
        "leased_tokens",
        "remaining_tokens",
        "reset_day",
        "period_start_time",
        "reset_time",
    ),
)

OrgOption = Annotated[
    str | None, typer.Option("--org", metavar="ORG", help="Of an organisation: its name or id.")
]
UserOption = Annotated[
    str | None, typer.Option("--user", metavar="USER", help="Of a person: their e-mail or id.")
]
KeyOption = Annotated[
    str | None, typer.Option("--key", metavar="KEY", help="Of an API key: its name or id.")
]


@command(
    app,
    "get",
    examples=["ias-admin budget get", "ias-admin budget get --key ci -o json"],
)
def get(ias: Ias, org: OrgOption = None, user: UserOption = None, key: KeyOption = None) -> None:
    """Show a budget and what is spent of it; your own organisation's if none is named.

    With --quiet, only the number of tokens that remain, or `unlimited`.
    """
    scope, of = _scope(ias, org, user, key)
    _show(ias, of, ias.stubs.budgets.get_budget(metering.GetBudgetRequest(scope=scope)).budget)


@command(
    app,
    "set",
    examples=[
        "ias-admin budget set --org acme --tokens 5M --reset-day 1",
        "ias-admin budget set --user ann@acme.org --tokens 250,000",
        "ias-admin budget set --key ci --tokens unlimited",
    ],
)
def set_(
    ias: Ias,
    *,
    org: OrgOption = None,
    user: UserOption = None,
    key: KeyOption = None,
    tokens: Annotated[
        str | None, typer.Option(metavar="N", help="A month: 5000000, 5M, … or unlimited.")
    ] = None,
    reset_day: Annotated[
        int | None,
        typer.Option(min=1, max=28, help="On which day of the month it begins anew, 00:00 UTC."),
    ] = None,
) -> None:
    """Set a budget, for this month and those that follow."""
    if not (org or user or key):
        raise wrong_usage("Whose budget?", "Name one of --org, --user and --key.")
    if tokens is None and reset_day is None:
        raise wrong_usage("There is nothing to set.", "Give --tokens, --reset-day, or both.")
    limit = values.tokens(tokens) if tokens is not None else None
    paths = [
        path
        for path, given in (("limit_tokens", tokens), ("reset_day", reset_day))
        if given is not None
    ]
    scope, of = _scope(ias, org, user, key)
    answer = ias.stubs.budgets.update_budget(
        metering.UpdateBudgetRequest(
            budget=metering.Budget(scope=scope, limit_tokens=limit, reset_day=reset_day or 0),
            update_mask=FieldMask(paths=paths),
        )
    )
    _show(ias, of, answer.budget)


def _scope(
    ias: Ias, org: str | None, user: str | None, key: str | None
) -> tuple[metering.BudgetScope, str]:
    """Whose budget, for IAS and for people."""
    if sum(part is not None for part in (org, user, key)) > 1:
        raise wrong_usage("One budget at a time.", "Name one of --org, --user and --key.")
    if user is not None:
        person = names.user(ias.stubs, user)
        scope = metering.BudgetScope(organization_id=person.organization_id, user_id=person.id)
        return scope, f"user {person.email}"
    if key is not None:
        found = names.api_key(ias.stubs, key)
        scope = metering.BudgetScope(organization_id=found.organization_id, api_key_id=found.id)
        return scope, f"API key {found.name} ({found.display})"
    if org is not None:
        tenant = names.organization(ias.stubs, org)
        return metering.BudgetScope(organization_id=tenant.id), f"organisation {tenant.name}"
    return metering.BudgetScope(), "your organisation"


def _show(ias: Ias, of: str, budget: metering.Budget | None) -> None:
    assert budget is not None
    row = record(budget)
    if ias.printer.is_table or ias.printer.quiet:
        row |= _for_people(of, budget)
    ias.printer.one(VIEW, row)


def _for_people(of: str, budget: metering.Budget) -> Record:
    """What programs read from null."""
    unlimited = budget.limit_tokens is None
    return {
        "of": of,
        "limit": "unlimited" if unlimited else budget.limit_tokens,
        "remaining": "unlimited" if unlimited else budget.remaining_tokens or 0,
    }
