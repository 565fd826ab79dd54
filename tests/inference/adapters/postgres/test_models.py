"""The registry on a real Postgres: stored, audited, and hot in every process."""

import asyncio
from collections.abc import AsyncIterator, Callable

import asyncpg
import grpc
import ias_testing
import pytest
from aiohttp import web
from ias.inference.v1 import models_pb2 as pb
from inference_support import AnAdapter, Gateway, a_gateway, an_admin, an_upstream

from ias_inference.adapters.postgres import model_changes
from ias_inference.adapters.postgres.model_changes import ModelChanges
from ias_inference.adapters.postgres.models import PostgresModels
from ias_inference.domain.engines import Served
from ias_inference.domain.errors import ModelNotFound
from ias_inference.domain.models import Registry
from ias_runtime import postgres

ADMIN = ias_testing.signed(an_admin(), x_request_id="req-9")


@pytest.fixture
async def management(pool: postgres.Pool) -> AsyncIterator[Gateway]:
    async with a_gateway(store=PostgresModels(pool)) as opened:
        yield opened


def a_model(name: str = "org/llama", **facts: object) -> pb.Model:
    backend = pb.Backend(engine="ENGINE_KIND_OPENAI", url="http://host:1/v1", api_key="s3cret")
    return pb.Model(**({"name": name, "backend": backend} | facts))  # type: ignore[arg-type]


def openai_at(url: str, **facts: object) -> pb.Backend:
    return pb.Backend(engine="ENGINE_KIND_OPENAI", url=url, **facts)  # type: ignore[arg-type]


def adapter_at(address: str, **facts: object) -> pb.Backend:
    return pb.Backend(engine="ENGINE_KIND_VLLM", url=f"grpc://{address}", **facts)  # type: ignore[arg-type]


async def create(gateway: Gateway, model: pb.Model) -> pb.Model:
    request = pb.CreateModelRequest(model=model)
    return (await gateway.management.CreateModel(request, metadata=ADMIN)).model


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_model_is_registered_with_defaults_and_without_its_secret(
    management: Gateway,
) -> None:
    created = await create(management, a_model(prompt_price_nanos=5))
    assert created.enabled
    assert created.display_name == "org/llama"
    assert created.max_output_tokens == 4096
    assert created.backend.upstream_model == "org/llama"
    assert created.backend.api_key == "********"
    assert created.create_time.seconds > 0
    got = await management.management.GetModel(pb.GetModelRequest(name="org/llama"), metadata=ADMIN)
    assert got.model == created


async def test_every_change_is_audited_without_the_secret(
    management: Gateway, pool: postgres.Pool
) -> None:
    await create(management, a_model("audited"))
    ask = management.management
    await ask.DisableModel(pb.DisableModelRequest(name="audited"), metadata=ADMIN)
    await ask.DisableModel(pb.DisableModelRequest(name="audited"), metadata=ADMIN)
    await ask.EnableModel(pb.EnableModelRequest(name="audited"), metadata=ADMIN)
    rows = await pool.fetch(
        "select * from audit.entries where resource_id = 'audited' order by sequence"
    )
    assert [row["action"] for row in rows] == ["model.create", "model.disable", "model.enable"]
    assert {row["request_id"] for row in rows} == {"req-9"}
    assert all("s3cret" not in str(dict(row)) for row in rows)
    assert rows[1]["before"]["enabled"]
    assert not rows[1]["after"]["enabled"]


async def test_a_name_is_taken_once(management: Gateway) -> None:
    await create(management, a_model("taken"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(management, a_model("taken"))
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"name": ""}, "model.name"),
        ({"name": "-x"}, "model.name"),
        ({"name": "a b"}, "model.name"),
        ({"name": "x" * 201}, "model.name"),
        ({"name": "x'; drop table inference.models; --"}, "model.name"),
        ({"prompt_price_nanos": -1}, "model.prompt_price_nanos"),
        ({"context_length": -1}, "model.context_length"),
        ({"max_output_tokens": 2**40}, "model.max_output_tokens"),
        ({"backend": pb.Backend()}, "model.backend.engine"),
        ({"backend": pb.Backend(engine="ENGINE_KIND_OPENAI")}, "model.backend.url"),
        ({"backend": pb.Backend(engine="ENGINE_KIND_MOCK", url="mock:?x=1")}, "model.backend.url"),
        ({"backend": pb.Backend(engine="ENGINE_KIND_MOCK", url="http://h")}, "model.backend.url"),
        ({"backend": pb.Backend(engine="ENGINE_KIND_VLLM", url="http://h")}, "model.backend.url"),
        ({"backend": pb.Backend(engine="ENGINE_KIND_VLLM", url="grpc://h")}, "model.backend.url"),
        (
            {
                "backend": pb.Backend(
                    engine="ENGINE_KIND_OPENAI", url="http://h", api_key="********"
                )
            },
            "model.backend.api_key",
        ),
        (
            {"backend": pb.Backend(engine="ENGINE_KIND_OPENAI", url="http://h", weight=-1)},
            "model.backend.weight",
        ),
        ({"backends": [openai_at("http://a"), openai_at("ftp://b")]}, "model.backends[1].url"),
        ({"backends": [openai_at("http://a"), openai_at("http://a/")]}, "model.backends"),
        (
            {"backends": [openai_at("http://a"), pb.Backend(engine="ENGINE_KIND_MOCK")]},
            "model.backends",
        ),
        ({"aliases": ["a b"]}, "model.aliases[0]"),
        ({"aliases": ["a", "a"]}, "model.aliases"),
        ({"aliases": ["org/llama"]}, "model.aliases"),
        ({"organization_ids": ["acme"]}, "model.organization_ids[0]"),
        ({"default_max_output_tokens": 4097}, "model.default_max_output_tokens"),
        ({"default_parameters": {"temperature": 3}}, "model.default_parameters.temperature"),
        ({"default_parameters": {"priority": 1}}, "model.default_parameters"),
        (
            {"default_parameters": {"chat_template_kwargs": {"a": 1}}},
            "model.default_parameters.chat_template_kwargs",
        ),
        ({"kind": 99}, "model.kind"),
    ],
)
async def test_a_bad_model_is_refused_by_field(
    management: Gateway, facts: dict[str, object], field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(management, a_model(**facts))  # type: ignore[arg-type]
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (caught.value.details() or "").startswith(field)


async def test_the_list_is_paged_by_name(management: Gateway) -> None:
    for name in ("b", "a", "c"):
        await create(management, a_model(name))
    seen, token = [], ""
    while True:
        page = await management.management.ListModels(
            pb.ListModelsRequest(page_size=2, page_token=token), metadata=ADMIN
        )
        seen.append([model.name for model in page.models])
        token = page.next_page_token
        if not token:
            break
    assert seen == [["a", "b"], ["c"]]


async def test_an_unknown_model_is_not_found(management: Gateway) -> None:
    for name in ("ghost", "", "a\x00b"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await management.management.GetModel(pb.GetModelRequest(name=name), metadata=ADMIN)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await management.management.EnableModel(
                pb.EnableModelRequest(name=name), metadata=ADMIN
            )
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_change_is_hot_in_every_process(
    management: Gateway, inference_database: str
) -> None:
    one, other = Registry(), Registry()
    async with ModelChanges(inference_database, one), ModelChanges(inference_database, other):
        await create(management, a_model("hot", aliases=["warm"]))
        await until(lambda: len(one.enabled()) == len(other.enabled()) == 1)
        assert one.get("hot").backend.api_key == "s3cret"
        known, as_alias = one.get("hot"), one.get("warm")
        await create(management, a_model("hotter"))
        await until(lambda: len(one.enabled()) == 2)
        assert one.get("hot") is known
        assert one.get("warm") is as_alias
        request = pb.DisableModelRequest(name="hot")
        await management.management.DisableModel(request, metadata=ADMIN)
        await until(lambda: len(one.enabled()) == len(other.enabled()) == 1)


async def test_the_registry_stays_while_postgres_is_away_and_catches_up(
    management: Gateway, inference_database: str, pool: postgres.Pool
) -> None:
    registry = Registry()
    await create(management, a_model("first"))
    async with ModelChanges(inference_database, registry):
        await pool.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'ias-inference-registry'"
        )
        assert registry.get("first")
        await create(management, a_model("second"))
        async with asyncio.timeout(3):
            while len(registry.enabled()) < 2:
                await asyncio.sleep(0.01)


async def test_a_lost_notification_is_made_up_for_by_the_poll(
    management: Gateway, inference_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deaf(*_: object) -> None:
        pass

    monkeypatch.setattr(asyncpg.Connection, "add_listener", deaf)
    monkeypatch.setattr(model_changes, "POLL_S", 0.05)
    registry = Registry()
    async with ModelChanges(inference_database, registry):
        await create(management, a_model("silent"))
        await until(lambda: len(registry.enabled()) == 1)


ORG = "00000000-0000-4000-8000-000000000001"


async def update(gateway: Gateway, *mask: str, **facts: object) -> pb.Model:
    request = pb.UpdateModelRequest(model=pb.Model(**facts), update_mask={"paths": mask})  # type: ignore[arg-type]
    return (await gateway.management.UpdateModel(request, metadata=ADMIN)).model


async def refused(call: object) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return caught.value.code()


async def test_everything_about_a_model_is_stored(
    management: Gateway, inference_database: str
) -> None:
    asked = a_model(
        "whole",
        backend=None,
        backends=[openai_at("http://a/v1", weight=3), openai_at("http://b/v1", api_key="k")],
        kind="MODEL_KIND_EMBEDDING",
        aliases=["w", "hole"],
        default_parameters={"top_k": 40, "temperature": 0.5, "stop": ["x"]},
        default_max_output_tokens=100,
        organization_ids=[ORG],
        allow_chat_template_kwargs=True,
    )
    created = await create(management, asked)
    assert [backend.weight for backend in created.backends] == [3, 1]
    assert [backend.api_key for backend in created.backends] == ["", "********"]
    assert created.backend == created.backends[0]
    assert list(created.aliases) == ["w", "hole"]
    assert created.default_parameters == asked.default_parameters
    assert created.kind == pb.MODEL_KIND_EMBEDDING
    registry = Registry()
    async with ModelChanges(inference_database, registry):
        held = registry.get("hole", ORG)
        assert (held.name, held.real_name) == ("hole", "whole")
        assert held.backends[1].api_key == "k"
        assert held.default_parameters == {"top_k": 40, "temperature": 0.5, "stop": ["x"]}
        assert isinstance(held.default_parameters["top_k"], int)
        assert registry.version > 0
        assert len(registry.id) == 36
        with pytest.raises(ModelNotFound):
            registry.get("whole", "00000000-0000-4000-8000-000000000002")


async def test_a_name_or_alias_stands_for_one_model_alone(management: Gateway) -> None:
    await create(management, a_model("one", aliases=["uno"]))
    for name, aliases in (("uno", []), ("two", ["one"]), ("two", ["uno"])):
        taken = create(management, a_model(name, aliases=aliases))
        assert await refused(taken) is grpc.StatusCode.ALREADY_EXISTS
    await create(management, a_model("two"))
    taken = update(management, "aliases", name="two", aliases=["dos", "uno"])
    assert await refused(taken) is grpc.StatusCode.ALREADY_EXISTS
    await update(management, "aliases", name="uno", aliases=["eins"])
    assert list((await update(management, "aliases", name="two", aliases=["uno"])).aliases)


async def test_an_update_changes_what_its_mask_names(management: Gateway) -> None:
    before = await create(management, a_model("m", prompt_price_nanos=5, aliases=["alias"]))
    after = await update(
        management, "completion_price_nanos", name="alias", completion_price_nanos=7,
        prompt_price_nanos=99,
    )  # fmt: skip
    assert (after.prompt_price_nanos, after.completion_price_nanos) == (5, 7)
    assert after.update_time.ToNanoseconds() > before.update_time.ToNanoseconds()
    after = await update(management, name="m", display_name="M", context_length=10)
    assert (after.display_name, after.context_length) == ("M", 10), "without a mask: what is set"
    assert list(after.aliases) == ["alias"]
    cleared = await update(management, "aliases", "context_length", name="m")
    assert (list(cleared.aliases), cleared.context_length) == ([], 0)
    for mask in ("name", "enabled", "backends.url", "x"):
        wrong = update(management, mask, name="m")
        assert await refused(wrong) is grpc.StatusCode.INVALID_ARGUMENT
    assert await refused(update(management, name="ghost")) is grpc.StatusCode.NOT_FOUND


async def test_the_key_of_a_backend_survives_an_update_that_shows_its_mask(
    management: Gateway, inference_database: str
) -> None:
    created = await create(management, a_model("m"))
    created.backends[0].weight = 2
    created.backends.append(openai_at("http://other/v1", api_key="second"))
    await update(management, "backends", name="m", backends=created.backends)
    registry = Registry()
    async with ModelChanges(inference_database, registry):
        assert [(b.api_key, b.weight) for b in registry.get("m").backends] == [
            ("s3cret", 2),
            ("second", 1),
        ]
    unknown = openai_at("http://third/v1", api_key="********")
    wrong = update(management, "backends", name="m", backends=[unknown])
    assert await refused(wrong) is grpc.StatusCode.INVALID_ARGUMENT


async def test_updates_and_removals_are_audited_without_secrets(
    management: Gateway, pool: postgres.Pool
) -> None:
    await create(management, a_model("kept"))
    await update(management, "display_name", name="kept", display_name="K")
    await update(management, "display_name", name="kept", display_name="K")
    await management.management.DeleteModel(pb.DeleteModelRequest(name="kept"), metadata=ADMIN)
    rows = await pool.fetch(
        "select * from audit.entries where resource_id = 'kept' order by sequence"
    )
    assert [row["action"] for row in rows] == ["model.create", "model.update", "model.delete"]
    assert all("s3cret" not in str(dict(row)) for row in rows)
    assert rows[1]["after"]["display_name"] == "K"
    assert rows[2]["before"]["backends"][0]["has_api_key"]
    assert rows[2]["after"] is None
    get = management.management.GetModel(pb.GetModelRequest(name="kept"), metadata=ADMIN)
    assert await refused(get) is grpc.StatusCode.NOT_FOUND
    again = management.management.DeleteModel(pb.DeleteModelRequest(name="kept"), metadata=ADMIN)
    assert await refused(again) is grpc.StatusCode.NOT_FOUND


async def test_names_are_free_again_after_a_removal(management: Gateway) -> None:
    await create(management, a_model("m", aliases=["n"]))
    await management.management.DeleteModel(pb.DeleteModelRequest(name="n"), metadata=ADMIN)
    await create(management, a_model("n", aliases=["m"]))


async def test_a_check_compares_what_backends_serve_with_what_is_registered(
    management: Gateway,
) -> None:
    keys: list[str] = []

    async def listing(request: web.Request) -> web.Response:
        keys.append(request.headers.get("authorization", ""))
        return web.json_response({"data": [{"id": "up", "max_model_len": 2048}, {"id": "x"}]})

    async def unused(_: web.Request) -> web.StreamResponse:
        raise AssertionError

    host = ias_testing.free_address()
    async with an_upstream(unused, listing) as url, an_upstream(unused) as silent:
        backends = [
            openai_at(url, upstream_model="up", api_key="s3cret"),
            openai_at(url.replace("127.0.0.1", "localhost"), upstream_model="absent"),
            openai_at(silent, upstream_model="up"),
            openai_at(f"http://{host}/v1"),
        ]
        await create(management, a_model("c", backend=None, backends=backends, context_length=4096))
        answer = await management.management.CheckModel(
            pb.CheckModelRequest(name="c"), metadata=ADMIN
        )
    good, absent, quiet, dead = answer.backends
    assert (good.reachable, good.context_length) == (True, 2048)
    assert list(good.served_models) == ["up", "x"]
    assert list(good.problems) == ["4096 tokens of context are registered, but it has 2048."]
    assert good.latency_ms > 0
    assert keys[0] == "Bearer s3cret"
    assert list(absent.problems) == ["It does not serve 'absent', but up, x."]
    assert (quiet.reachable, list(quiet.problems)) == (True, []), "a server need not list models"
    assert not dead.reachable
    assert "can't be reached" in dead.problems[0]


async def test_a_check_compares_what_adapters_serve_with_what_is_registered(
    management: Gateway,
) -> None:
    adapter = AnAdapter(Served("up", 2048), Served("x", 2048))
    async with a_gateway(adapter=adapter) as other:
        port = other.address.rpartition(":")[2]
        backends = [
            adapter_at(other.address, upstream_model="up"),
            adapter_at(f"localhost:{port}", upstream_model="absent"),
            adapter_at(management.address),
            adapter_at(ias_testing.free_address()),
        ]
        await create(management, a_model("v", backend=None, backends=backends, context_length=4096))
        answer = await management.management.CheckModel(
            pb.CheckModelRequest(name="v"), metadata=ADMIN
        )
    good, absent, plain, dead = answer.backends
    assert (good.reachable, good.context_length) == (True, 2048)
    assert list(good.served_models) == ["up", "x"]
    assert list(good.problems) == ["4096 tokens of context are registered, but it has 2048."]
    assert list(absent.problems) == ["It does not serve 'absent', but up, x."]
    assert list(plain.problems) == ["It does not serve 'v', nor anything else."]
    assert not dead.reachable
    assert "can't be reached" in dead.problems[0]
