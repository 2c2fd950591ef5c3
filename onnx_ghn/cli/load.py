"""`onnx-ghn load`: the weights of an ONNX file back into its framework."""

from __future__ import annotations

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.exporting import files_of, print_report, target_options

__all__ = ["load"]


@click.command(cls=Command, short_help="Take the weights in MODEL back into its framework.")
@target_options
@cli_options.model
@cli_options.output("Where to write the framework's own file.")
def load(
    target: str,
    model: str,
    output: str,
    shapes: tuple[tuple[int, ...], ...],
    settings: dict[str, object],
    force: bool,
    as_json: bool,
) -> None:
    """Write the weights in MODEL, an ONNX file of FRAMEWORK:TARGET, as a file that the framework loads.

    A state_dict as .safetensors (PyTorch, Hugging Face), .weights.h5 (Keras), .tf (a folder with a
    TensorFlow checkpoint), .msgpack or .orbax (Flax), .eqx (Equinox), .pdparams (Paddle), .ckpt (MindSpore), .npz
    (scikit-learn).
    """
    from onnx_ghn.exporters.registry import resolve
    from onnx_ghn.exporters.weight_files import check_weights_target, write_weights

    found = resolve(target, shapes, settings)
    check_weights_target(found, output, force, [model, *files_of(target)])
    report = found.exporter.load(found.model, model, found.example_inputs)
    write_weights(found, output, force=force)
    print_report(report, f"{output} for {target}", "loaded", as_json)
