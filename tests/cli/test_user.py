"""`ias-admin user`."""

from ias.access.v1 import access_pb2

from .fake_ias import PASSWORD


def test_an_invitation_names_the_organisation_by_name(admin, ias):
    invited = admin.json("user", "invite", "new@acme.org", "--role", "org_admin", "--org", "acme")
    assert invited["role"] == "org_admin"
    assert invited["status"] == "pending"
    assert invited["organization_name"] == "acme"
    assert invited["invitation_token"] == f"invitation-{invited['id']}"
    assert invited["invitation_expire_time"] == "2026-12-01T00:00:00Z"
    assert ias.requests[-1].role == access_pb2.ROLE_ORG_ADMIN


def test_a_person_is_told_that_the_token_is_shown_once(ann):
    result = ann("user", "invite", "new@acme.org")
    assert "invitation-" in result.stdout
    assert "shown this once" in result.stderr
    assert "org_user" in result.stdout


def test_a_quiet_invitation_does_not_lose_its_token(ann):
    result = ann("user", "invite", "new@acme.org", "-q")
    assert len(result.stdout.split()) == 1
    assert "invitation-" in result.stderr


def test_a_list_shows_organisations_by_name(admin):
    out = admin.ok("user", "list")
    assert "ops@example.com" in out
    assert "acme" in out
    assert [one["email"] for one in admin.json("user", "list", "--org", "acme")] == [
        "ann@acme.org",
        "ben@acme.org",
    ]
    assert admin.csv("user", "list")[0].startswith("id,email,role,status")


def test_a_user_is_found_by_address_in_any_case(admin):
    assert admin.json("user", "get", "Ann@Acme.org")["email"] == "ann@acme.org"


def test_an_org_user_finds_themselves_and_nobody_else(ben):
    assert ben.json("user", "get", "ben@acme.org")["role"] == "org_user"
    assert ben("user", "get", "ann@acme.org").exit_code == 3


def test_who_accepts_an_invitation_is_signed_in(cli, ias):
    cli.env["IAS_CONFIG"] = str(cli.config)
    invited = ias.user("new@acme.org", access_pb2.ROLE_ORG_USER, next(iter(ias.organizations)))
    result = cli(
        "user", "accept-invite", "--password-stdin", stdin=f"invitation-{invited.id}\n{PASSWORD}\n"
    )
    assert result.exit_code == 0, result.stderr
    assert "new@acme.org" in cli.ok("whoami")


def test_accepting_for_someone_leaves_ones_own_session_alone(admin, ias):
    invited = ias.user("new@acme.org", access_pb2.ROLE_ORG_USER, next(iter(ias.organizations)))
    token = f"invitation-{invited.id}"
    result = admin("user", "accept-invite", token, "--password-stdin", stdin=PASSWORD)
    assert result.exit_code == 0, result.stderr
    assert admin.json("whoami")["email"] == "ops@example.com"
    assert invited.id not in ias.access_tokens.values()


def test_a_weak_password_is_wrong_usage_and_a_bad_invitation_is_not_allowed(cli, ias):
    invited = ias.user("new@acme.org", access_pb2.ROLE_ORG_USER)
    weak = cli("user", "accept-invite", f"invitation-{invited.id}", "--password-stdin", stdin="x")
    assert weak.exit_code == 2
    bad = cli("user", "accept-invite", "nonsense", "--password-stdin", stdin=PASSWORD)
    assert bad.exit_code == 3
    assert "new invitation" in bad.stderr
