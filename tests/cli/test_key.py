"""`ias-admin key`."""

from datetime import UTC, datetime, timedelta

import pytest

from .fake_ias import SECRET_KEY


def user(ias, email):
    return next(one for one in ias.users.values() if one.email == email)


@pytest.fixture
def keys(ias):
    """Two keys in force, and a revoked one that bears the name of one of them."""
    ann, ben = user(ias, "ann@acme.org"), user(ias, "ben@acme.org")
    ias.key("ci", ann, revoked=True)
    return {
        "ci": ias.key("ci", ann, identifier="0199aaaa-0000-7000-8000-000000000001"),
        "laptop": ias.key("laptop", ben, identifier="0199bbbb-0000-7000-8000-000000000002"),
    }


def test_a_new_key_shows_its_secret_once_with_a_hint(ben):
    result = ben("key", "create", "laptop")
    assert SECRET_KEY in result.stdout
    assert "Store the secret now" in result.stderr
    assert SECRET_KEY not in ben.ok("key", "list", "-o", "json")


def test_a_script_reads_the_secret_from_json(ben):
    assert ben.json("key", "create", "laptop")["secret"] == SECRET_KEY
    assert ben.csv("key", "create", "laptop")[0].endswith(",secret")


def test_a_key_created_quietly_is_not_lost(ben, ias):
    result = ben("key", "create", "laptop", "--quiet")
    assert result.stdout.strip() in ias.keys
    assert SECRET_KEY in result.stderr


def test_the_bounds_of_a_key_are_sent(ben, ias):
    ben.ok(
        *("key", "create", "ci", "--models", "a/b, c", "--cidrs", "10.0.0.0/8,::1/128"),
        *("--expires", "30d"),
    )
    request = ias.requests[-1]
    assert list(request.allowed_models) == ["a/b", "c"]
    assert list(request.allowed_cidrs) == ["10.0.0.0/8", "::1/128"]
    left = request.expire_time.ToDatetime(tzinfo=UTC) - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < left <= timedelta(days=30)


def test_a_key_may_expire_on_a_date(ben, ias):
    ben.ok("key", "create", "ci", "--expires", "2027-01-31")
    assert ias.requests[-1].expire_time.ToJsonString() == "2027-01-31T00:00:00Z"


@pytest.mark.parametrize("when", ["soon", "30y", "2027-13-01", "999999w"])
def test_an_expiry_that_is_none_is_wrong_usage(ben, when):
    assert ben("key", "create", "ci", "--expires", when).exit_code == 2


def test_a_list_shows_owners_by_address_and_what_is_in_force(ann, keys):
    out = ann.ok("key", "list")
    assert "ann@acme.org" in out
    assert "ben@acme.org" in out
    assert "revoked" in out
    listed = ann.json("key", "list")
    assert [(one["name"], one["status"]) for one in listed] == [
        ("ci", "revoked"),
        ("ci", "active"),
        ("laptop", "active"),
    ]
    assert listed[2]["user_email"] == "ben@acme.org"
    assert listed[2]["allowed_models"] == []


def test_a_list_is_narrowed_by_names(admin, keys):
    listed = admin.json("key", "list", "--org", "acme", "--user", "ben@acme.org")
    assert [one["name"] for one in listed] == ["laptop"]


def test_an_org_user_sees_their_own_address(ben, keys):
    assert {one["user_email"] for one in ben.json("key", "list")} == {None, "ben@acme.org"}


@pytest.mark.parametrize("reference", ["laptop", "0199bbbb", "display", "id"])
def test_a_key_is_found_by(ann, keys, reference):
    meant = {"display": keys["laptop"].display, "id": keys["laptop"].id}.get(reference, reference)
    assert ann.json("key", "get", meant)["id"] == keys["laptop"].id


def test_a_leaked_key_is_revoked_by_pasting_it_and_never_repeated(ann, keys):
    head, tail = keys["laptop"].display.split("…")
    leaked = head + "s" * (56 - len(head) - len(tail)) + tail
    result = ann("key", "revoke", leaked, "--yes")
    assert result.exit_code == 0, result.stderr
    assert keys["laptop"].HasField("revoke_time")
    unknown = ann("key", "revoke", "ias_" + "z" * 52, "--yes")
    assert unknown.exit_code == 4
    assert "z" * 20 not in unknown.output


def test_a_name_means_the_key_in_force(ann, keys):
    assert ann.json("key", "get", "ci")["id"] == keys["ci"].id


def test_an_ambiguous_name_lists_the_candidates_and_changes_nothing(ann, keys, ias):
    twin = ias.key("ci", user(ias, "ben@acme.org"))
    result = ann("key", "revoke", "ci", "--yes")
    assert result.exit_code == 2
    assert keys["ci"].id in result.stderr
    assert twin.id in result.stderr
    assert not twin.HasField("revoke_time")


def test_no_such_key_is_not_found(ann, keys):
    result = ann("key", "get", "nothing")
    assert result.exit_code == 4
    assert "ias-admin key list" in result.stderr
    assert ann("key", "get", "0199cccc-0000-7000-8000-000000000003").exit_code == 4


def test_nothing_is_revoked_unasked(ann, keys):
    result = ann("key", "revoke", "laptop")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert not keys["laptop"].HasField("revoke_time")


def test_a_revoked_key_is_shown_as_such(ann, keys):
    assert ann.json("key", "revoke", "laptop", "--yes")["status"] == "revoked"
