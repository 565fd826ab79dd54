"""A plain chat's prompt as token ids, at a fraction of what the general way costs.

vLLM renders every chat through steps for images, tools, threads and templates of all kinds. For
messages of plain text the template itself is all that matters: it is compiled once and called
directly, and the tokenizer without what wraps it. Whether both ways give the same is tried out
when the model is loaded; where they differ, the general way is taken for good.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import structlog
from tokenizers import Tokenizer
from transformers.utils.chat_template_utils import _compile_jinja_template
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.renderers.hf import (
    HfRenderer,
    resolve_chat_template,
    resolve_chat_template_content_format,
    resolve_chat_template_kwargs,
)
from vllm.renderers.online_renderer import OnlineRenderer

log = structlog.get_logger()

_LONG_TEXT = 32_768
"""Characters; tokenizing more than that would hold up everyone else."""


class Message(msgspec.Struct, forbid_unknown_fields=True):
    """A message of plain text; one with anything else is not plain."""

    role: Literal["system", "user", "assistant"]
    content: str


_messages_of = msgspec.json.Decoder(list[Message]).decode
_TRIALS: Sequence[Sequence[tuple[str, str]]] = (
    (("user", "Hello!"),),
    (("system", "Be brief."), ("user", "What is 2 + 2?\n\n  Think.")),
    (("user", "Grüße 🌍"), ("assistant", " 你好 "), ("user", "<|im_end|>\tAnd now?\n")),
    (("system", ""), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")),
)


def messages_of(value: object) -> list[Message] | None:
    """The messages, if all are plain text."""
    try:
        if isinstance(value, msgspec.Raw):
            return _messages_of(value)
        return msgspec.convert(value, list[Message])
    except (msgspec.ValidationError, msgspec.DecodeError):
        return None


class Rendering:
    """Prompts of one model."""

    def __init__(self, online: OnlineRenderer) -> None:
        self._online = online
        self._tokenizer: Tokenizer | None = None
        self._template: Any = None
        self._variables: dict[str, Any] = {}
        self._parts = False
        """Whether the template wants contents as lists of parts."""
        self.max_characters = 0
        """Longer texts can't fit the model's context."""

    @property
    def chats(self) -> bool:
        """Whether plain chats can be rendered here."""
        return self._template is not None

    @property
    def texts(self) -> bool:
        """Whether texts can be tokenized here."""
        return self._tokenizer is not None

    async def open(self) -> None:
        """Prepares what it can, and compares it with vLLM's own way."""
        renderer = self._online.renderer
        tokenizer: Any = renderer.tokenizer
        backend = getattr(tokenizer, "_tokenizer", None)
        if not isinstance(renderer, HfRenderer) or not isinstance(backend, Tokenizer):
            return
        # A copy: vLLM's own threads set truncation on theirs while they use it.
        self._tokenizer = Tokenizer.from_str(backend.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        context = self._online.model_config.max_model_len
        self.max_characters = context * max(1, tokenizer.max_chars_per_token)
        try:
            self._prepare_template(tokenizer)
            differs = [str(trial) for trial in _TRIALS if not await self._same(trial)]
        except Exception as error:  # whatever it is, vLLM's own way remains
            differs = [repr(error)]
        if differs:
            self._template = None
            log.warning("chats are rendered by vLLM's own, slower way", differs=differs[0])

    def _prepare_template(self, tokenizer: Any) -> None:
        online = self._online
        config = online.model_config
        template = resolve_chat_template(
            tokenizer, chat_template=online.chat_template, tools=None, model_config=config
        )
        if template is None or online.use_harmony:
            return
        form = resolve_chat_template_content_format(
            chat_template=online.chat_template,
            tools=None,
            given_format=online.chat_template_content_format,
            tokenizer=tokenizer,
            model_config=config,
        )
        asked = ChatCompletionRequest(messages=[{"role": "user", "content": "x"}])
        chosen = (
            asked.build_chat_params(online.chat_template, online.chat_template_content_format)
            .with_defaults(online.default_chat_template_kwargs)
            .chat_template_kwargs
        )
        variables = resolve_chat_template_kwargs(tokenizer, template, dict(chosen))
        variables.pop("continue_final_message", None)
        variables.pop("tools", None)
        variables.pop("documents", None)
        self._parts = form == "openai"
        self._variables = {
            **tokenizer.special_tokens_map,
            **variables,
            "tools": None,
            "documents": None,
        }
        self._template = _compile_jinja_template(template)

    async def _same(self, trial: Sequence[tuple[str, str]]) -> bool:
        """Whether both ways give the same token ids; also if vLLM's own refuses the trial."""
        if self._template is None:
            return True
        messages = [{"role": role, "content": content} for role, content in trial]
        try:
            answer = await self._online.render_chat(ChatCompletionRequest(messages=messages))
        except Exception:
            return True
        if not isinstance(answer, tuple):
            return True
        (expected,) = answer[1]
        mine = await self.chat([Message(role, content) for role, content in trial])  # type: ignore[arg-type]
        return expected["type"] == "token" and list(expected["prompt_token_ids"]) == mine

    async def chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a chat. Raises what the template raises."""
        if self._parts:
            said: list[dict[str, Any]] = [
                {"role": m.role, "content": [{"type": "text", "text": m.content}]} for m in messages
            ]
        else:
            said = [{"role": m.role, "content": m.content} for m in messages]
        text = self._template.render(messages=said, **self._variables)
        return await self.tokens(text, special=False)

    async def tokens(self, text: str, *, special: bool) -> list[int]:
        """Token ids of a text, with those that the model wants around it if `special`."""
        assert self._tokenizer is not None
        if len(text) > _LONG_TEXT:
            found = await asyncio.to_thread(
                self._tokenizer.encode, text, add_special_tokens=special
            )
        else:
            found = self._tokenizer.encode(text, add_special_tokens=special)
        return list(found.ids)
