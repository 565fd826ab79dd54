"""The demo data as a running stack offers it, in `dev.env` and to whoever wants to try it."""

import http.client
import json
from dataclasses import dataclass
from typing import Any

from ias_dev import dotenv, urls, waiting
from ias_dev.keys import Keys
from ias_dev.services import BOOTSTRAP_EMAIL
from ias_dev.settings import HOST, Settings

USER_EMAIL = "demo@ias.local"
MODEL = "mock-gpt"


@dataclass(frozen=True, slots=True)
class Demo:
    """What a person needs to use the stack."""

    keys: Keys
    organization_id: str

    @property
    def api_key(self) -> str:
        """The key of the demo user."""
        return self.keys.demo_api_key


def variables(settings: Settings, demo: Demo) -> dict[str, str]:
    """What dev.env says."""
    return {
        "IAS_URL": settings.url,
        "IAS_GRPC": settings.grpc_target,
        "IAS_ADMIN_EMAIL": BOOTSTRAP_EMAIL,
        "IAS_ADMIN_PASSWORD": demo.keys.admin_password,
        "IAS_DEMO_ORG_ID": demo.organization_id,
        "IAS_DEMO_USER_EMAIL": USER_EMAIL,
        "IAS_DEMO_USER_PASSWORD": demo.keys.demo_user_password,
        "IAS_DEMO_API_KEY": demo.api_key,
        "IAS_DEMO_MODEL": MODEL,
        "IAS_DATABASE_URL": urls.database(settings, demo.keys),
        "IAS_REDIS_URL": urls.redis(settings, demo.keys),
        "IAS_AMQP_URL": urls.amqp(settings, demo.keys),
        "IAS_ENVOY_ADMIN": f"http://{HOST}:{settings.ports.envoy_admin}",
    }


def write(settings: Settings, demo: Demo) -> None:
    """Writes dev.env."""
    dotenv.write(settings.dotenv, variables(settings, demo))


def read(settings: Settings, keys: Keys) -> Demo | None:
    """The demo data of an earlier start; None when they were never complete."""
    organization_id = dotenv.read(settings.dotenv).get("IAS_DEMO_ORG_ID", "")
    if not organization_id or not keys.demo_api_key:
        return None
    return Demo(keys, organization_id)


def works(settings: Settings, demo: Demo) -> bool:
    """Whether the key may use the model. Spends no token."""
    return key_works(settings, demo.api_key, "/v1/models/" + MODEL)


def key_works(settings: Settings, api_key: str, path: str = "/v1/models") -> bool:
    """Whether a GET with the key is answered. Raises OSError when nobody answers at all."""
    return _ask(settings, "GET", path, api_key)[0] == 200


def wait_for_completion(settings: Settings, demo: Demo, model: str = MODEL) -> None:
    """Returns once the model has answered. A new model may take 2 s to be known everywhere.

    A model that is made for other things than chats says so.
    """
    messages = [{"role": "user", "content": "Hello"}]
    body = {"model": model, "messages": messages, "max_tokens": 8}

    def ask() -> None:
        path = "/v1/chat/completions"
        status, answer = _ask(settings, "POST", path, demo.api_key, body)
        unsupported = status == 400 and "does not support" in json.dumps(answer)
        if not unsupported and (status != 200 or "choices" not in answer):
            raise RuntimeError(f"HTTP {status} {json.dumps(answer)}")

    waiting.until(ask, "A chat completion", timeout_s=30, every_s=0.2)


def curl(settings: Settings, demo: Demo, model: str = MODEL) -> str:
    """A command that works as pasted."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello!"}]})
    return (
        f"curl {settings.url}/v1/chat/completions \\\n"
        f"  -H 'Authorization: Bearer {demo.api_key}' \\\n"
        f"  -H 'Content-Type: application/json' \\\n"
        f"  -d '{body}'"
    )


def _ask(
    settings: Settings, method: str, path: str, api_key: str, body: object = None
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(HOST, settings.ports.envoy, timeout=15)
    try:
        headers = {"authorization": f"Bearer {api_key}", "content-type": "application/json"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = {"text": text.decode(errors="replace")}
    return answer.status, parsed
