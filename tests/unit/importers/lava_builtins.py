"""Run by the guest's interpreter: a chain of Lava's own Conv, Dense, DelayDense and LIFReset processes, as netx would build it.

python lava_builtins.py IN.npz OUT.npz      IN: x (T, X, Y, C) or (T, N); kinds; per layer weight_k, delay_k, bias_k, and numbers_k
"""

from __future__ import annotations

import sys

import numpy as np


def main(source: str, destination: str) -> None:
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.conv.process import Conv
    from lava.proc.dense.process import DelayDense, Dense
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source
    from lava.proc.lif.process import LIFReset
    from lava.utils.weightutils import SignMode

    data = np.load(source)
    x, kinds = data["x"], [str(k) for k in data["kinds"]]
    steps, hops = len(x), len(kinds)
    before = Source(data=np.moveaxis(x, 0, -1))
    port, shape, sinks = before.s_out, x.shape[1:], []
    for k, kind in enumerate(kinds):
        weight = data[f"weight_{k}"]
        i_decay, v_decay, threshold, stride, padding = (int(n) for n in data[f"numbers_{k}"])
        common = {"weight_exp": 0, "num_weight_bits": 8, "num_message_bits": 0, "sign_mode": SignMode.MIXED}
        if kind == "conv":
            kernel = weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)
            synapse = Conv(weight=kernel, input_shape=shape, stride=(stride, stride), padding=(padding, padding), num_message_bits=0)
            shape = tuple(synapse.output_shape)
        else:
            if len(shape) == 3:
                port = port.transpose([2, 1, 0]).flatten()
            shape = (len(weight),)
            delay = data[f"delay_{k}"]
            if delay.any():
                delays = np.repeat(delay.reshape(-1, 1), weight.shape[1], axis=1)
                synapse = DelayDense(weights=weight, delays=delays, max_delay=62, **common)
            else:
                synapse = Dense(weights=weight, **common)
        neuron = LIFReset(
            shape=shape, vth=threshold, du=i_decay - 1, dv=v_decay, bias_mant=np.broadcast_to(data[f"bias_{k}"], shape).astype(np.int32),
            bias_exp=6, reset_interval=steps, reset_offset=2 + k,
        )  # fmt: skip
        sink = Sink(shape=shape, buffer=steps + hops)
        port.connect(synapse.s_in)
        synapse.a_out.connect(neuron.a_in)
        neuron.s_out.connect(sink.a_in)
        port = neuron.s_out
        sinks.append(sink)
    before.run(condition=RunSteps(num_steps=steps + hops), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    try:
        found = {f"s_{k}": np.moveaxis(sink.data.get(), -1, 0)[1 + k : 1 + k + steps] for k, sink in enumerate(sinks)}
    finally:
        before.stop()
    np.savez(destination, **found)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
