"""Reports of made-up builds, for tests of the page: consistent in themselves, of any size, with any names."""

from __future__ import annotations

import numpy as np

from broadaxe.reports.schema import (
    Amounts,
    Budget,
    Data,
    End,
    Fifo,
    Histogram,
    Kernel,
    Layer,
    Made,
    Observed,
    Packed,
    Port,
    Report,
    Requantizer,
    Witness,
)

HOSTILE = (
    "</script><img src=x onerror=\"alert('1')\">",
    "<!--<script>\"'`${document.title}`&amp;&#x3c;",
    "\u202eright\u200fto\u2066left\u2069, a\u2028b",
    "n" * 200,
    "{{ 7 * 7 }}{% raw %}|__proto__",
)


def bits_of(lo: int, hi: int) -> int:
    """Of two's complement."""
    return max((-lo - 1).bit_length() if lo < 0 else 0, hi.bit_length()) + 1


def amounts(lut: float, dsp: int = 0, bram18: int = 0) -> Amounts:
    return Amounts(lut=lut, ff=lut * 0.75 + 1 / 3, dsp=dsp, bram18=bram18, uram=0)


def layer(i: int, channels: int, depth: int, rng: np.random.Generator, node: str) -> Layer:
    """Weights of 4 bits and inputs of uint4; every third is offset, every fourth has a budget, every fifth is in tiles."""
    weights = np.clip(rng.normal(0, 2.5, (channels, depth)).round(), -8, 7).astype(int)
    lo, hi = 15 * np.minimum(weights, 0).sum(1), 15 * np.maximum(weights, 0).sum(1)
    offset = i % 3 == 1
    exact, free = bits_of(int(lo.min()), int(hi.max())), int((hi - lo).max()).bit_length()
    width = free if offset else exact
    starts = -(lo + (1 << (width - 1))) if offset else np.zeros(channels, int)
    bits = [bits_of(low, high) for low, high in zip(lo.tolist(), hi.tolist(), strict=True)]
    widest = int(np.argmax(hi - lo if offset else bits))
    row = weights[widest].tolist()
    below, above = [15 * (w < 0) for w in row], [15 * (w > 0) for w in row]
    values, counts = np.arange(-8, 8), np.array([(weights == v).sum() for v in range(-8, 8)])
    samples = rng.integers(0, 4, (6, depth)) @ weights.T
    prefix = (int((lo + np.minimum(starts, 0)).min()), int((hi + np.maximum(starts, 0)).max()))
    tiled = i % 5 == 4 and depth % 4 == 0
    budget = Budget(bits=width + i % 2, of="tile" if tiled else "sum") if i % 4 == 3 else None
    held = 1 << (width - 1)
    return Layer(
        name=f"conv{i}",
        node=node,
        op="Conv" if i % 7 else "Gemm",
        shape=(8, 8, channels),
        macs=64 * channels * depth,
        depth=depth,
        outputs=channels,
        weight_bits=4,
        input_bits=4,
        datatype_bits=8 + (depth - 1).bit_length(),
        l1_bits=min(exact + 1, 8 + (depth - 1).bit_length()),
        exact_bits=exact,
        prefix_bits=bits_of(*prefix),
        offset_bits=free,
        width=width,
        mode="offset" if offset else "two's complement",
        tile=depth // 4 if tiled else None,
        inner_bits=width - 2 if tiled else None,
        saved_bits=8 + (depth - 1).bit_length() - width,
        budget=budget,
        margin_bits=budget and budget.bits - (width - 2 if tiled else width),
        margin=int(2 * held - 1 - (hi - lo).max()) if offset else int(min(held - 1 - hi.max(), lo.min() + held)),
        channel_bits=tuple(bits),
        lo=tuple(lo.tolist()),
        hi=tuple(hi.tolist()),
        starts=tuple(starts.tolist()),
        prefix=prefix,
        inner=(int(lo.min()) // 4, int(hi.max()) // 4) if tiled else None,
        observed=Observed(samples=6, lo=tuple(samples.min(0).tolist()), hi=tuple(samples.max(0).tolist()))
        if i % 6 != 5
        else None,
        weights=Histogram(lo=int(values[0]), step=1, counts=tuple(counts.tolist()), zeros=int(counts[8])),
        witness=Witness(
            channel=widest,
            low=End(sum=int(lo[widest]), operands=(tuple(below), tuple(row))),
            high=End(sum=int(hi[widest]), operands=(tuple(above), tuple(row))),
        ),
        requantizers=(f"quant{i}",),
        pe=4,
        simd=2,
        multiplier="packed" if i % 8 == 6 else "lut",
        pe_bits=(width, width, width - 1, width) if i % 2 else None,
        packing=Packed(dsp="DSP48E1", products=2, lane=width + 2, chunk=depth) if i % 8 == 6 else None,
        cycles=8 * channels * depth,
        resources=amounts(100.25 + 7 * i, dsp=2 if i % 8 == 6 else 0),
    )


def report(
    layers: int = 4, channels: int = 8, depth: int = 36, seed: int = 0, names: tuple[str, ...] = (), skips: int = 0
) -> Report:
    """A chain of layers, each with a window and a requantizer; `skips` residual blocks of two layers, evenly spread.

    `names` are given to nodes, tensors and whatever else a user's file may name, in turn.
    """
    rng = np.random.default_rng(seed)
    called = [names[i % len(names)] if names else f"node_{i} (Conv)" for i in range(layers + 4)]
    made = tuple(layer(i, channels, depth, rng, called[i]) for i in range(layers))
    kernels: list[Kernel] = []
    fifos: list[Fifo] = []

    def kernel(name: str, kind: str, node: str, trips: int, lut: float) -> str:
        at = 11 * len(kernels)
        kernels.append(
            Kernel(
                name=name,
                kind=kind,
                node=node,
                trips=trips,
                fill=9,
                start=at,
                end=at + trips + 9,
                lanes=None if kind in ("lanes", "copy", "read", "write") else (2, 4),
                resources=amounts(lut, bram18=int(kind == "window")),
            )
        )
        return name

    def fifo(writer: str, reader: str, kind: str, bits: int, depth: int = 5) -> None:
        name = f"s{len(fifos)}_{writer.replace(' ', '_')}"
        fifos.append(
            Fifo(
                name=name,
                writer=writer,
                reader=reader,
                type=f"{kind}{bits}",
                lanes=4,
                bits=4 * bits,
                words=64,
                least=2,
                depth=depth,
                resources=amounts(3.5),
            )
        )

    last = kernel("read in0", "read", "", 64, 10)
    blocks = {round(2 + k * (layers - 2) / skips) // 2 * 2 for k in range(skips)} if skips else set()
    fork = None
    for i, one in enumerate(made):
        if i in blocks and i + 1 < layers:
            copy = kernel(f"s_quant{i - 1}_to_window{i}_and_adder", "copy", "", 64, 4)
            fifo(last, copy, "uint", 4)
            fork = last = copy
        window = kernel(f"window{i}", "window", one.node, 70, 60)
        fifo(last, window, "uint", 4)
        conv = kernel(one.name, "matvec", one.node, one.cycles, one.resources.lut)
        fifo(window, conv, "uint", 4)
        last = kernel(f"quant{i}", "requantize", one.node, 64, 40)
        fifo(conv, last, "int", one.width)
        if fork and i - 1 in blocks:
            add = kernel(f"add{i}", "scaled_add", f"add_{i} (Add)", 64, 30)
            fifo(last, add, "uint", 4)
            fifo(fork, add, "uint", 4, 77)
            last, fork = add, None
    end = kernel("write out0", "write", "", 64, 10)
    fifo(last, end, "uint", 4)
    slowest = max(kernels, key=lambda k: k.trips)
    spent = [entry.resources for entry in (*kernels, *fifos)]

    def port(name: str, tensor: str) -> Port:
        return Port(
            name=name,
            tensor=tensor,
            quantized=None,
            type="uint4",
            lo=0,
            hi=15,
            shape=(8, 8, channels),
            lanes=4,
            bits=16,
            beats=16 * channels,
            tensor_shape=(channels, 8, 8),
            order="channels-last",
            index=None,
            scale=(0.125,),
            shift=(0.0,),
            zero_point=(0,),
            then=(),
        )

    return Report(
        broadaxe="0.1.0",
        top="made_up_top",
        made=Made(
            command=f"broadaxe compile {called[-1]} -o build",
            versions={"python": "3.11", "numpy": "2.4"},
            model_sha256="ab" * 32,
            settings={"clock_ns": 5.0, "inputs": {called[-2]: "uint4"}},
        ),
        calibration=Data(source=called[-3], samples=6),
        inputs=(port("in0", called[-4]),),
        outputs=(port("out0", called[-3]),),
        outputs_of_model=(called[-3],),
        layers=made,
        requantizers=tuple(
            Requantizer(
                name=f"quant{i}",
                node=one.node,
                form="threshold-search" if i % 2 else "multiply-shift",
                channels=channels,
                comparisons=16 * channels + i,
                reads=one.name,
                input=f"int{one.width}",
                output="uint4",
                parameters={"levels": 16} if i % 2 else {"multiplier_bits": 12, "shift": 17},
            )
            for i, one in enumerate(made)
        ),
        macs=sum(one.macs for one in made),
        interval=slowest.trips + slowest.fill,
        slowest=slowest.name,
        latency=max(k.end for k in kernels),
        clock_ns=5.0,
        kernels=tuple(kernels),
        fifos=tuple(fifos),
        resources=Amounts(
            lut=sum(s.lut for s in spent),
            ff=sum(s.ff for s in spent),
            dsp=sum(s.dsp for s in spent),
            bram18=sum(s.bram18 for s in spent),
            uram=0,
        ),
    )
