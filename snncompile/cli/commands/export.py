"""``snncompile export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from snncompile.cli.options import FILE, Range, json_option, model_options


@click.command(short_help="Compile a trained network into a bundle, with its evidence.")
@click.argument("model", type=FILE, required=False)
@click.option("--target", default="loihi2-sim", show_default=True, help="A chip or simulator; see snncompile targets.")
@click.option("-o", "--output", type=FILE, metavar="OUT", help="Folder, or file ending in .zip. [default: MODEL's name + .snn, here]")
@click.option("--data", type=FILE, metavar="FILE", help=".npz with x (N, shape) or (N, T, shape) and labels y, to measure on.")
@click.option("--calibration", type=FILE, metavar="FILE", help=".npz with x, to choose ranges and round weights by. [default: the data]")
@click.option("--input-range", type=Range(), help="Lowest and highest input value, and their grid. [default: from MODEL or the data]")
@click.option(
    "--readout", type=click.Choice(["sum", "mean", "last"]), help="Decision from the outputs over time. [default: from MODEL, or sum]"
)
@click.option("--readout-of", metavar="OUTPUT", help="The output that decides, of several. [default: the first]")
@click.option(
    "--weight-bits",
    type=click.IntRange(2, 32),
    default=8,
    show_default=True,
    metavar="BITS",
    help="Signed weights; wider than the target's they take two synapses each.",
)
@click.option("--input-bits", type=click.IntRange(1, 16), default=8, show_default=True, metavar="BITS", help="Inputs that lie on no grid.")
@click.option(
    "--exact", type=click.Choice(["auto", "always"]), default="auto", show_default=True,
    help="Exact dynamics where they cost nothing, or also at the price of weight bits.",
)  # fmt: skip
@click.option(
    "--seca", type=click.Choice(["calibrated", "exact", "host"]), default="calibrated", show_default=True,
    help="Gates of channel attention: fixed by calibration, or live, as neuron programs on the chip or on its host.",
)  # fmt: skip
@click.option("--no-lava", is_flag=True, help="Do not run the program on Lava's simulator.")
@click.option(
    "--lava-samples", type=click.IntRange(min=1), metavar="N", help="Samples to run on Lava. [default: at most 256, fewer if slow]"
)
@click.option(
    "--learn", multiple=True, metavar="LAYER", help="Let this layer keep learning on the chip; several: again, or with commas between."
)
@click.option("--rule", metavar="NAME", help="Rule: ottt, sltt, osr, ndot or ltl. [default: what MODEL was trained with, or ottt]")
@click.option(
    "--learning-rate", type=float, default=0.01, show_default=True, metavar="ETA", help="Of plain SGD on the loss averaged over T."
)
@click.option("--loss", default="softmax", show_default=True, metavar="NAME", help="Error of the readout: softmax (cross-entropy) or mse.")
@click.option("--trace-leak", type=float, metavar="L", help="Decay of the presynaptic trace per step. [default: the neurons' leak]")
@click.option(
    "--headroom",
    metavar="H",
    help="How far a weight may move, by its neuron's largest; layer=H,... by layer. [default: tried on the data, or 1.5]",
)
@click.option("--surrogate", metavar="KIND:SIZE", help="psi of hidden layers: sigmoid:4, triangle:1... [default: the rule's]")
@click.option(
    "--feedback", default="random", show_default=True, metavar="NAME", help="To hidden layers: random, or transpose (the readout's)."
)
@click.option("--feedback-scale", type=float, metavar="B", help="RMS of random feedback. [default: that of the readout's weights]")
@click.option("--warm-up", type=int, metavar="T", help="With ltl: the first step that learns. [default: 3/4 of the steps]")
@click.option("--local-weight", type=float, default=1.0, show_default=True, metavar="C", help="With ltl: coefficient of the local loss.")
@click.option("--learning-seed", type=int, default=1, show_default=True, metavar="N", help="Seed of the stochastic rounding.")
@click.option("--timeout", type=click.FloatRange(min=1), default=600.0, show_default=True, metavar="SECONDS", help="Limit of the Lava run.")
@model_options
@json_option
@click.pass_obj
def export(obj: dict[str, Any], /, model: Path | None, output: Path | None, **options: Any) -> int:
    """Compile MODEL, run it on the integer reference and on Lava, and write a bundle.

    MODEL is a checkpoint of the training kit, or a state dict together with --arch. Without MODEL, --arch alone compiles what the
    factory returns.

    \b
    Example:
      snncompile export examples/mnist_ottt/model.pt --target loihi2-sim
      snncompile export weights.pt --arch nets.py:make --arch-args '{"width": 8}' \\
                 --input-shape 1,28,28 --steps 6 --data images.npz -o net.zip
      snncompile export model.pt --learn classifier --rule ottt
    """
    from snncompile.cli.work import export as work  # noqa: PLC0415

    return work.export(work.Request(model=model, output=output, quiet=obj["quiet"], **options))
