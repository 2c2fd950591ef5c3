"""`onnx-ghn profile`'s speed of decoding beside that of a loop of one's own over the same session, in turn.

    python benchmarks/decode_loop.py data/examples/llama_cache.onnx --context 128

The loop feeds the key-value cache of the last run back as arrays. Generations alternate, so that a drift of the machine
meets both; the ratio belongs to that machine while it is idle.
"""

from __future__ import annotations

import time

import click
import numpy as np
import onnxruntime

from onnx_ghn.profiling.cache_inputs import cache_inputs
from onnx_ghn.profiling.generating import Decoder
from onnx_ghn.profiling.sessions import timed_session
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import model_spec


def own_loop(session: onnxruntime.InferenceSession, prompt: np.ndarray, tokens: int) -> tuple[list[int], list[int]]:
    """The chosen tokens and the nanoseconds of each after the first, for the names that optimum gives."""
    pasts = [value.name for value in session.get_inputs() if value.name.startswith("past_key_values")]
    shapes = {value.name: value.shape for value in session.get_inputs()}
    cache = {name: np.zeros((1, shapes[name][1], 0, shapes[name][3]), np.float32) for name in pasts}
    ids, total, chosen, spent = prompt, prompt.shape[1], [], []
    while len(chosen) < tokens:
        began = time.perf_counter_ns()
        positions = np.arange(total - ids.shape[1], total)[None]
        feed = {"input_ids": ids, "attention_mask": np.ones((1, total), np.int64), "position_ids": positions}
        logits, *present = session.run(None, feed | cache)
        cache = dict(zip(pasts, present, strict=True))
        ids = logits[:, -1].argmax(-1)[:, None]
        total += 1
        chosen.append(int(ids[0, 0]))
        spent.append(time.perf_counter_ns() - began)
    return chosen, spent[1:]


@click.command()
@click.argument("model")
@click.option("--context", default=128, show_default=True)
@click.option("--tokens", default=64, show_default=True, help="Number of tokens of a generation.")
@click.option("--rounds", default=40, show_default=True)
def main(model: str, context: int, tokens: int, rounds: int) -> None:
    """Print both, and their ratio."""
    spec = model_spec(model)
    cache = cache_inputs(spec.inputs)
    if cache is None:
        raise click.UsageError(f"{model}: takes no tokens with a key-value cache")
    session, _ = timed_session(model, Point(), Settings())
    decoder = Decoder(session, cache)
    ours: list[int] = []
    loop: list[int] = []
    for seed in range(rounds):
        prompt = cache.feed(0, context, seed=seed)["input_ids"]
        if seed % 2:  # who goes first changes
            found = decoder.generate(context, tokens, seed)
            chosen, spent = own_loop(session, prompt, tokens)
        else:
            chosen, spent = own_loop(session, prompt, tokens)
            found = decoder.generate(context, tokens, seed)
        if chosen != [int(token[0]) for token in found.tokens]:
            raise click.ClickException("both chose other tokens")
        if seed:  # the first is the warm-up
            ours += found.decode_ns
            loop += spent
    for q in (50, 90):
        a, b = (float(np.percentile(sample, q)) / 1e6 for sample in (ours, loop))
        click.echo(f"p{q} of a token: {a:.3f} ms, loop {b:.3f} ms, ratio {a / b:.3f}")
    click.echo(f"tokens a second at p50: {1e9 / np.median(ours):,.0f}, loop {1e9 / np.median(loop):,.0f}")


if __name__ == "__main__":
    main()
