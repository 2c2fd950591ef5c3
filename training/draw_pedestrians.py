"""Draw a small data set of pedestrians into a new folder, in the format of Penn-Fudan."""

from pathlib import Path

import click

from onnx_ghn.cli import run_command
from onnx_ghn.training.detection.drawn_pedestrians import draw_pedestrians


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-n", "--images", default=60, show_default=True, help="Number of images to draw.")
@click.option(
    "--side", type=click.IntRange(min=32), default=96, show_default=True, help="Side of the images in pixels."
)
@click.option("-s", "--seed", type=click.IntRange(min=0), default=0, show_default=True)
def main(folder: Path, images: int, side: int, seed: int) -> None:
    """Draw a data set into a new FOLDER."""
    draw_pedestrians(folder, images, side=side, seed=seed)
    click.echo(f"{folder}: {images} images")


if __name__ == "__main__":
    run_command(main)
