"""`ias-admin budget`."""

import pytest


def ids(ias):
    acme = next(one for one in ias.organizations.values() if one.name == "acme")
    ann = next(one for one in ias.users.values() if one.email == "ann@acme.org")
    return acme.id, ann


def test_an_organisations_budget_is_set_by_name(admin, ias):
    acme, _ = ids(ias)
    budget = admin.json("budget", "set", "--org", "acme", "--tokens", "5M", "--reset-day", "7")
    assert budget["limit_tokens"] == 5_000_000
    assert budget["reset_day"] == 7
    assert budget["scope"]["organization_id"] == acme
    assert list(ias.requests[-1].update_mask.paths) == ["limit_tokens", "reset_day"]


def test_only_what_is_given_is_set(admin, ias):
    admin.ok("budget", "set", "--org", "acme", "--reset-day", "7")
    assert list(ias.requests[-1].update_mask.paths) == ["reset_day"]


def test_unlimited_is_told_from_zero(admin, ias):
    admin.ok("budget", "set", "--org", "acme", "--tokens", "0")
    assert ias.requests[-1].budget.HasField("limit_tokens")
    assert admin.json("budget", "get", "--org", "acme")["limit_tokens"] == 0
    admin.ok("budget", "set", "--org", "acme", "--tokens", "unlimited")
    assert not ias.requests[-1].budget.HasField("limit_tokens")
    assert admin.json("budget", "get", "--org", "acme")["limit_tokens"] is None
    assert "unlimited" in admin.ok("budget", "get", "--org", "acme")


def test_a_users_and_a_keys_budget_name_their_organisation(admin, ias):
    acme, ann = ids(ias)
    key = ias.key("ci", ann)
    admin.ok("budget", "set", "--user", "ann@acme.org", "--tokens", "250,000")
    assert ias.requests[-1].budget.scope.organization_id == acme
    assert ias.requests[-1].budget.scope.user_id == ann.id
    admin.ok("budget", "set", "--key", "ci", "--tokens", "1_000")
    assert ias.requests[-1].budget.scope.organization_id == acme
    assert ias.requests[-1].budget.scope.api_key_id == key.id


def test_a_table_has_thousands_separators_and_csv_has_none(ann):
    ann.ok("budget", "set", "--org", "acme", "--tokens", "5M")
    out = ann.ok("budget", "get", "--org", "acme")
    assert "5,000,000" in out
    assert "1,200" in out
    assert "4,998,500" in out
    assert "5000000,1200,300,4998500,1" in ann.csv("budget", "get", "--org", "acme")[1]
    assert ann.ok("budget", "get", "--org", "acme", "-q") == "4998500\n"


def test_ones_own_organisation_is_meant_when_none_is_named(ben):
    assert "your organisation" in ben.ok("budget", "get")
    assert ben.ok("budget", "get", "-q") == "unlimited\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--tokens", "5"),
        ("--org", "acme"),
        ("--org", "acme", "--user", "ann@acme.org", "--tokens", "5"),
        ("--org", "acme", "--tokens", "many"),
        ("--org", "acme", "--tokens", "1.5"),
        ("--org", "acme", "--tokens", "9" * 30),
        ("--org", "acme", "--tokens=-5"),
        ("--org", "acme", "--reset-day", "29"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_wrong_usage(admin, ias, arguments):
    assert admin("budget", "set", *arguments).exit_code == 2
    assert not ias.budgets


def test_an_unknown_scope_is_not_found(admin):
    assert admin("budget", "get", "--org", "nothing").exit_code == 4
    assert admin("budget", "get", "--user", "no@one.org").exit_code == 4
    assert admin("budget", "get", "--key", "nothing").exit_code == 4
