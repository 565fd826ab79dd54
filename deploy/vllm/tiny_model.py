"""Makes two tiny, real models for development and tests: no download, the same ones every time.

    python deploy/vllm/tiny_model.py FOLDER

* FOLDER/tiny-chat   a Llama of 0.7 M parameters that speaks nonsense in perfect form;
* FOLDER/tiny-embed  the same shape as a BERT, which gives embeddings.

Weights are random from a fixed seed. The tokenizer is a byte-level BPE that learns from the
repository's own documentation, so that ordinary English costs a token for a few letters. The
template is ChatML with the tool calls of Hermes, which vLLM's parser `hermes` reads.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

ROOT = Path(__file__).resolve().parents[2]
SEED = 20261125
VOCABULARY = 2048
CONTEXT = 2048
EMBEDDING_CONTEXT = 512
END_FACTOR = 12
"""Of the end's logit: makes an answer end after some dozens of tokens."""
PAD, BEGIN, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

TEMPLATE = """\
{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
{{- '# Tools\\n\\nYou may call these functions:\\n<tools>' }}
{%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
{{- '\\n</tools>\\n\\nFor each call return a JSON object inside <tool_call></tool_call>:\\n' }}
{{- '<tool_call>\\n{"name": NAME, "arguments": OBJECT}\\n</tool_call><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'system' and loop.first %}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content }}
{{- '\\n</tool_response><|im_end|>\\n' }}
{%- elif message.role == 'assistant' and message.tool_calls %}
{{- '<|im_start|>assistant\\n' + (message.content or '') }}
{%- for call in message.tool_calls %}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments if call.function.arguments is string
    else (call.function.arguments | tojson) }}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- else %}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


def documents() -> Iterator[str]:
    """What the tokenizer learns from: stable text, so that the models stay the same for long."""
    yield (ROOT / "LICENSE").read_text()
    for name in ("architecture.md", "adding-an-rpc.md", "operations.md"):
        yield (ROOT / "docs" / name).read_text()
    for contract in sorted((ROOT / "proto" / "ias").rglob("*.proto")):
        yield contract.read_text()


def tokenizer(*, bert: bool) -> PreTrainedTokenizerFast:
    """A byte-level BPE: any text has tokens, and they give the text back."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BEGIN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(documents(), trainer)
    if bert:
        made.post_processor = processors.TemplateProcessing(
            single=f"{BEGIN} $A {END}",
            pair=f"{BEGIN} $A {END} $B:1 {END}:1",
            special_tokens=[(BEGIN, made.token_to_id(BEGIN)), (END, made.token_to_id(END))],
        )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token=PAD,
        eos_token=END,
        model_max_length=EMBEDDING_CONTEXT if bert else CONTEXT,
        **({"cls_token": BEGIN, "sep_token": END} if bert else {}),
    )
    if not bert:
        wrapped.chat_template = TEMPLATE
    return wrapped


def make_chat(folder: Path) -> None:
    """A Llama whose answers end of themselves now and then."""
    words = tokenizer(bert=False)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=None,
        eos_token_id=words.convert_tokens_to_ids(END),
        pad_token_id=words.convert_tokens_to_ids(PAD),
        tie_word_embeddings=True,
    )
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        # Else the end would be as rare as any of two thousand tokens.
        model.get_output_embeddings().weight[config.eos_token_id] *= END_FACTOR
    model = model.to(torch.bfloat16)
    model.generation_config.temperature = None
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def make_embed(folder: Path) -> None:
    """A BERT with sentence-transformers' pooling (mean) and normalisation."""
    words = tokenizer(bert=True)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=EMBEDDING_CONTEXT,
        pad_token_id=words.convert_tokens_to_ids(PAD),
    )
    torch.manual_seed(SEED)
    BertModel(config).save_pretrained(folder)
    words.save_pretrained(folder)
    parts = "sentence_transformers.models"
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": f"{parts}.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{parts}.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{parts}.Normalize"},
    ]
    pooling = {"word_embedding_dimension": 128, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "2_Normalize").mkdir(exist_ok=True)
    (folder / "modules.json").write_text(json.dumps(modules, indent=2))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling, indent=2))


def main() -> None:
    """Makes both in the folder named on the command line."""
    folder = Path(sys.argv[1])
    for name, make in (("tiny-chat", make_chat), ("tiny-embed", make_embed)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        make(folder / name)
        sys.stdout.write(f"{folder / name}\n")


if __name__ == "__main__":
    main()
