"""`onnx-ghn load`: the weights of an ONNX file back into its framework."""

from __future__ import annotations

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.exporting import ModelOptions, files_of, print_report, target
from onnx_ghn.cli.frameworks import building, framework_at_work
from onnx_ghn.cli.terminal import spinner

__all__ = ["load"]


@click.command(cls=Command, short_help="Take the weights in MODEL back into its framework.")
@target
@cli_options.model
def load(
    target: str,
    model: str,
    options: ModelOptions,
    output: str = cli_options.output("Where to write the framework's own file."),
) -> None:
    """Write the weights in MODEL, an ONNX file of FRAMEWORK:TARGET, as a file that the framework loads.

    A state_dict as .safetensors (PyTorch, Hugging Face), .weights.h5 (Keras), .tf (a folder with a
    TensorFlow checkpoint), .msgpack or .orbax (Flax), .eqx (Equinox), .pdparams (Paddle), .ckpt (MindSpore), .npz
    (scikit-learn).
    """
    with framework_at_work():
        with building(target):
            from onnx_ghn.exporters.registry import resolve
            from onnx_ghn.exporters.weight_files import check_weights_target, write_weights

            found = resolve(target, options.shapes, dict(options.arguments))
        check_weights_target(found, output, options.force, [model, *files_of(target)])
        with spinner(f"loading {model}"):
            report = found.exporter.load(found.model, model, found.example_inputs)
            write_weights(found, output, force=options.force)
    print_report(report, f"{output} for {target}", "loaded", options.as_json)
