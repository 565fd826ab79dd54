"""Every change has its audit entry, in the log of the organisation it concerns."""


def test_each_change_is_audited(stack, oracle):
    team = stack.new_team()
    stack.admin("budget", "set", "--org", team.org, "--tokens", "1000")
    stack.admin("--yes", "key", "revoke", team.key_id)
    entries = stack.admin_json("audit", "list", "--org", team.org)
    actions = [entry["action"] for entry in entries]
    for action in (
        "organization.create",
        "user.invite",
        "api_key.create",
        "budget.update",
        "api_key.revoke",
    ):
        assert action in actions, actions
    assert [e["sequence"] for e in entries] == [str(n) for n in range(len(entries), 0, -1)] or [
        e["sequence"] for e in entries
    ] == list(range(len(entries), 0, -1)), "numbered without gaps"
    for entry in entries:
        assert entry["actor_user_id"], entry
        assert entry["request_id"], entry
        assert entry["hash"]


def test_a_refused_change_leaves_no_entry_and_no_trace(stack):
    team = stack.new_team()
    before = stack.admin_json("audit", "list", "--org", team.org)
    stack.admin("org", "create", team.org, code=1)
    stack.admin("budget", "set", "--org", team.org, "--tokens=-5", code=None)
    assert stack.admin_json("audit", "list", "--org", team.org) == before


def test_the_registrys_changes_are_in_the_systems_log(stack, oracle):
    stack.admin("model", "add", "audited", "--engine", "openai", "--url", oracle.url)
    stack.admin("--yes", "model", "disable", "audited")
    entries = [e for e in stack.admin_json("audit", "list") if e["resource_id"] == "audited"]
    assert [e["action"] for e in entries] == ["model.disable", "model.create"]
