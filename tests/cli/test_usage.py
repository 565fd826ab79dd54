"""`ias-admin usage`."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from ias.metering.v1 import usage_pb2

from .fake_ias import stamp


@pytest.fixture
def used(ias):
    """Three rows of two people, one of whom nobody knows any more."""
    ann = next(one for one in ias.users.values() if one.email == "ann@acme.org")
    key = ias.key("ci", ann)
    for number, user_id in enumerate([ann.id, ann.id, "gone"], start=1):
        ias.usage.append(
            usage_pb2.UsageRow(
                day=stamp(datetime(2026, 11, number, tzinfo=UTC)),
                model="llama",
                user_id=user_id,
                api_key_id=key.id,
                organization_id=ann.organization_id,
                requests=1000,
                failed_requests=1,
                prompt_tokens=1_000_000,
                completion_tokens=500,
                total_tokens=1_000_500,
                cost_nanos=1_500_000_001,
            )
        )


def test_a_table_shows_names_thousands_decimal_cost_and_a_total(admin, used):
    out = admin.ok("usage", "--org", "acme", "--by", "user,model", "--last", "30d")
    assert "ann@acme.org" in out
    assert "gone" in out
    assert "1,000,500" in out
    assert "1.500000001" in out
    total = out.splitlines()[-1]
    assert total.startswith("Total")
    assert "3,001,500" in total
    assert "4.500000003" in total


def test_json_has_ids_and_names_and_exact_cost(admin, used):
    rows = admin.json("usage", "--by", "day,user,key,organization,model")
    assert rows[0]["user_email"] == "ann@acme.org"
    assert rows[2]["user_id"] == "gone"
    assert rows[2]["user_email"] is None
    assert rows[0]["api_key_name"] == "ci"
    assert rows[0]["organization_name"] == "acme"
    assert rows[0]["day"] == "2026-11-01T00:00:00Z"
    assert rows[0]["cost_nanos"] == 1_500_000_001
    assert rows[0]["cost"] == "1.500000001"
    assert len(rows) == 3


def test_what_was_not_asked_for_is_not_shown(admin, used):
    assert set(admin.json("usage", "--by", "model")[0]) == {
        *("model", "requests", "failed_requests", "prompt_tokens", "completion_tokens"),
        *("cached_tokens", "total_tokens", "cost_nanos", "cost"),
    }


def test_the_question_is_put_as_asked(admin, ias, used):
    admin.ok("usage", "--by", "key,model", "--from", "2026-11-01", "--to", "2026-12-01T00:00:00Z")
    request = ias.requests[-1]
    dimensions = [usage_pb2.USAGE_DIMENSION_KEY, usage_pb2.USAGE_DIMENSION_MODEL]
    assert list(request.group_by) == dimensions
    assert getattr(request, "from").ToJsonString() == "2026-11-01T00:00:00Z"
    assert request.to.ToJsonString() == "2026-12-01T00:00:00Z"


def test_last_counts_from_now(admin, ias, used):
    admin.ok("usage", "--last", "2w")
    since = getattr(ias.requests[-1], "from").ToDatetime(tzinfo=UTC)
    assert abs(datetime.now(UTC) - timedelta(weeks=2) - since) < timedelta(minutes=1)
    assert not ias.requests[-1].HasField("to")


def test_only_one_persons_usage_by_address(admin, ias, used):
    admin.ok("usage", "--user", "ann@acme.org", "--key", "ci", "--model", "llama")
    assert ias.users[ias.requests[-1].user_id].email == "ann@acme.org"
    assert ias.requests[-1].api_key_id in ias.keys
    assert ias.requests[-1].model == "llama"


def test_an_export_holds_every_row_and_no_total(admin, used, tmp_path):
    file = tmp_path / "november.csv"
    result = admin("usage", "--by", "user", "--export", str(file))
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert "3 rows" in result.stderr
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert [row["total_tokens"] for row in rows] == ["1000500"] * 3
    admin.ok("usage", "--by", "user", "--export", str(tmp_path / "november.json"))
    exported = json.loads((tmp_path / "november.json").read_text())
    assert "user" not in exported[0]
    assert len(exported) == 3


def test_an_org_user_reads_usage_though_they_may_list_no_people(ben, used):
    assert ben.json("usage", "--by", "user")[0]["user_email"] is None


def test_quiet_prints_tokens_alone(admin, used):
    assert admin.ok("usage", "-q") == "1000500\n" * 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("--by", "moon"),
        ("--last", "30"),
        ("--last", "999999w"),
        ("--from", "0001-01-01T00:00+14:00"),
        ("--last", "30d", "--from", "2026-11-01"),
        ("--from", "yesterday"),
        ("--export", "usage.docx"),
    ],
)
def test_a_question_that_cannot_be_meant_is_wrong_usage(admin, arguments):
    assert admin("usage", *arguments).exit_code == 2
