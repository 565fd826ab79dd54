"""`ias-admin audit`."""

import json

import pytest

from .fake_ias import ADMIN_EMAIL, audit_entry


@pytest.fixture
def changed(ias):
    admin = next(one for one in ias.users.values() if one.email == ADMIN_EMAIL)
    ias.audit += [
        audit_entry(3, admin.id, "organization.create"),
        audit_entry(2, "", "user.create"),
        audit_entry(1, "gone", "organization.create"),
    ]


def test_entries_show_who_by_address(admin, changed):
    out = admin.ok("audit", "list")
    assert ADMIN_EMAIL in out
    assert "the system" in out
    assert "gone" in out
    assert "203.0.113.7" in out


def test_json_holds_the_change_itself(admin, changed):
    entries = admin.json("audit", "list")
    assert [entry["sequence"] for entry in entries] == [3, 2, 1]
    assert entries[0]["after"] == {
        "name": "acme",
        "tokens": 5,
        "tags": ["a", None],
        "inner": {"on": True},
    }
    assert entries[0]["before"] is None
    assert entries[0]["actor_email"] == ADMIN_EMAIL


def test_a_limit_stops_the_pages(admin, changed):
    assert len(admin.ok("audit", "list", "--limit", "1", "-q").split()) == 1
    assert len(admin.json("audit", "list", "--action", "organization.create")) == 2


def test_csv_keeps_the_change_in_one_cell(admin, changed):
    header, first, *_ = admin.csv("audit", "list")
    assert "before,after" in header
    assert json.dumps("acme") in first.replace('""', '"')


def test_a_developer_may_not_read_it(ben, changed):
    assert ben("audit", "list").exit_code == 3
