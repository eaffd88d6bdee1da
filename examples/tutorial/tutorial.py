# %% [markdown]
# # From a float network to a co-simulation project
#
# This tutorial takes a small PyTorch network through everything that Broadaxe does: it quantizes it so that no
# accumulator can overflow, compiles it to C++ for an FPGA, shows what was proven, breaks it on purpose, and ends with
# a project for the vendor's tools. It takes some minutes, needs no network, no licence and no FPGA tool. In a clone of the
# repository, with g++ installed:
#
#     pip install -c constraints.txt ".[demo,sweep,exact]"
#     python examples/tutorial/tutorial.py
#
# What it writes is in the folder `tutorial-files` then.
#
# You should know what a neural network is. Words from hardware are explained where they first appear.

# %%
import os

os.environ["OMP_NUM_THREADS"] = "1"  # sums of floats depend on it; so your figures are those printed here

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import broadaxe

torch.set_num_threads(1)
shutil.rmtree("tutorial-files", ignore_errors=True)
os.mkdir("tutorial-files")
os.chdir("tutorial-files")  # everything that is written below goes there


def run(command):
    """A command line, as you would type it into a terminal."""
    print(f"$ {command}")
    words = [sys.executable, "-m", "broadaxe_command", *shlex.split(command)[1:]]
    done = subprocess.run(words, capture_output=True, text=True)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    print("\n".join([*done.stdout.splitlines(), *errors]))
    print(f"exit code {done.returncode}")


# %% [markdown]
# ## 1. A float network
#
# Handwritten digits of 8 x 8 pixels, two convolutions and a linear layer. It is trained in float64 and its weights
# are rounded to multiples of 1/4096, for one reason: every computer then gets the same weights, and the figures
# below.

# %%
digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))
images, labels = (digits.images[order, None] / 16).astype(np.float32), digits.target[order]
x_test, y_test, x_val, y_val = images[:450], labels[:450], images[450:600], labels[450:600]
x_train, y_train = images[600:], labels[600:]


def trained():
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(256, 10)),
    ).double()
    x, y = torch.tensor(x_train, dtype=torch.float64), torch.tensor(y_train)
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    for _ in range(150):
        batch = torch.randint(len(x), (128,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
        optimizer.step()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_((tensor * 4096).round() / 4096)
    return network.float().eval()


def accuracy(outputs):
    return f"{100 * np.mean(outputs.argmax(axis=1) == y_test):.1f} %"


network = trained()
with torch.no_grad():
    print("accuracy of the float network on test images:", accuracy(network(torch.tensor(x_test)).numpy()))

# %% [markdown]
# ## 2. What an accumulator is, and what goes wrong when it overflows
#
# A neuron multiplies its inputs by weights and adds up the products. In hardware all of these are integers: here
# inputs are 4-bit numbers from 0 to 15 and weights 4-bit numbers from -8 to 7. The register that the products are
# added up in is the **accumulator**. An FPGA lets you choose how many bits it has, and every bit costs logic, in
# every neuron.
#
# A register of P bits in two's complement holds -2^(P-1) to 2^(P-1) - 1. A sum that is larger does not stop there: it
# **wraps**, as a clock that goes from 12 to 1. Nothing tells you; the result is just another number.

# %%
inputs, weights = np.array([15, 12, 9, 15, 3, 14, 15, 11, 8]), np.array([7, -3, 6, 5, 7, 7, 4, -1, 2])
total = int(inputs @ weights)


def held(total, bits):
    """What a register of so many bits has when a sum wraps."""
    half = 2 ** (bits - 1)
    return (total + half) % (2 * half) - half


for bits in (16, 10, 9, 8):
    print(
        f"{bits:2} bits hold {-(2 ** (bits - 1)):6} to {2 ** (bits - 1) - 1:5}: the sum {total} becomes {held(total, bits)}"
    )

# %% [markdown]
# 10 bits are enough for this input. Are they enough for every input? Trying images answers that for these images
# only. There is an exact answer: the sum is largest when every positive weight meets the largest input and every
# negative one the least.

# %%
most, least = 15 * int(weights[weights > 0].sum()), 15 * int(weights[weights < 0].sum())
print(f"whatever the inputs are, the sum lies from {least} to {most}")
print(f"two's complement: {max(most.bit_length(), (-least - 1).bit_length()) + 1} bits")
print(
    f"starting at a constant of our choice instead of 0: {(most - least).bit_length()} bits, since {most} - {least} < 2^10"
)

# %% [markdown]
# Both ends are reached by an input, its **witness**: so fewer bits would be wrong, and more would be waste. This is
# what Broadaxe proves for every accumulator of a network. People usually take 32 bits, or what the types alone would
# need (`K` products of the largest weight and the largest input), and pay for bits that never change.
#
# ## 3. Quantize under a budget
#
# **Quantizing** replaces real weights and activations by small integers times a step size. `quantize` does that layer
# by layer, and `acc_bits=12` is a **budget**: it may choose only weights whose sum fits 12 bits for every input there
# could ever be. It looks at some hundred training images, its **calibration data**, to lose as little accuracy as it
# can.

# %%
quantized = broadaxe.quantize(network, x_train, acc_bits=12, weight_bits=4, act_bits=4)
print(quantized)

# %% [markdown]
# One row a layer: `K` products in each sum, `rows` output channels, weights of `bits` bits of which the largest that
# was chosen is `codes`, the share of `zeros` among them. `asked` is the budget, `width` what the compiler proves that
# the sums need. `error` is the squared error of the layer's output over its power, on calibration data and on rows
# `held out` of it.
#
# The same is there as data, to be tested or plotted:

# %%
for layer in quantized.record.layers:
    print(layer.name, "asked", layer.acc_bits, "proven", layer.width, "zeros", f"{layer.zeros:.0%}")
quantized.save("digits.onnx")  # QONNX: a file that Netron, FINN and hls4ml read, too; digits.json has the record

# %% [markdown]
# ## 4. Compile
#
# `compile` turns the model into integers only, proves how wide every accumulator has to be, and writes C++ that the
# vendor's HLS tool (**high-level synthesis**) turns into a circuit. Its result is a folder.

# %%
build = broadaxe.compile("digits.onnx", "build", calibration=x_train, target_fps=100_000)
print(*sorted(path.name for path in build.path.iterdir()), sep="  ")
print(*sorted(path.name for path in (build.path / "firmware").glob("*.*")), sep="  ")

# %% [markdown]
# ## 5. The report, column by column

# %%
report = broadaxe.report(build)
print(report)

# %% [markdown]
# The first table has bits. For each layer:
#
# | column | what |
# |---|---|
# | `MACs` | multiplications for one image |
# | `K` | products in one sum |
# | `WxA` | bits of weights and activations |
# | `type` | accumulator bits by data types alone: any weights, any inputs |
# | `l1` | by the actual weights (the sum of their magnitudes, their l1 norm) and any inputs of the type |
# | `exact` | by the actual weights and what is proven of every input: the interval above, in two's complement |
# | `offset` | the same interval when the sum may start at a constant |
# | `asked` | the budget that the model was quantized for |
# | `width` | what the hardware has; `saved` bits less than `type` |
# | `fold` | PE x SIMD: output channels times inputs that are computed at once, `cycles` for an image |
#
# The second table has sums: the interval that is proven, of partial sums as well, and the one that calibration images
# reached. The proven one is wider, and that is the point: no image that anybody ever sends can leave it. `counts` is
# how much the interval could grow before it needed another bit. LUTs (small look-up tables, the logic of an FPGA),
# FFs (flip-flops, its one-bit registers), DSPs (multipliers) and BRAM18s (memories of 18 Kbit) are what a layer
# takes, by a model.
#
# Everything is data, too. In a notebook a result that ends a cell is shown as a table:

# %%
first = report.layers[0]
print(first.name, first.node, "channel sums", first.lo[0], "to", first.hi[0], "in", first.width, "bits")
quantized

# %% [markdown]
# ## 6. Why that many bits?
#
# `explain` does for one channel of a layer what we did by hand above. It ends with what one bit less would cost.

# %%
print(broadaxe.explain(build, "conv1"))

# %% [markdown]
# ## 7. Verify, and what each line proves

# %%
verification = broadaxe.verify(build, x_test)
print(verification)

# %% [markdown]
# - *Requantizers* are what turns a sum into the next layer's small integers: step sizes, bias, BatchNormalization and
#   ReLU in one integer function. So many comparisons at the steps of that function prove it equal to the model's
#   exact arithmetic, for every sum.
# - *Witnesses*: each layer alone was driven to both ends of its interval in the generated C++, and held.
# - *C simulation*: the C++, compiled with g++, gave in every tensor of the network what a reference in numpy gives,
#   and what onnxruntime gives for the same integers; once with the vendor's own arbitrary-precision types (`ap_int`).
# - *float32 onnxruntime*: your model as it is was run in floats. Where a float rounds to another integer than the
#   exact arithmetic, the difference must be within what float32 itself can be wrong by; then it is *explained*.
# - The last line sums up, and in a script `verification.ok` decides.
#
# The C++ computes what the model does, so its accuracy is the model's:

# %%
(outputs,) = broadaxe.simulate(build, x_test).values()
print("accuracy of the generated C++ on test images:", accuracy(outputs))

# %% [markdown]
# ## 8. Break it
#
# A proof is worth something if a wrong design fails. Take one bit from the accumulator of `conv1` in the C++, in a
# copy:

# %%
shutil.copytree("build", "broken")
types = Path("broken/firmware/types.hpp")
declared = next(line for line in types.read_text().splitlines() if " conv1_t;" in line)
narrow = declared.replace("ap_int<12>", "ap_int<11>")
types.write_text(types.read_text().replace(declared, narrow))
print(declared)
print(narrow)
print(broadaxe.verify("broken", x_test))

# %% [markdown]
# The file's hash, values in both C simulations (native integers, and `ap_int` types), the testbench and the witness
# notice, and verify says where: the first layer, input and index that differ. It stops comparing there, so it counts
# fewer inputs than above. What arrives is not just off by 2^11, since `types.hpp` is only one of the places that agree on
# the width. The command line ends with exit code 1 then, so a script stops:

# %%
run("broadaxe verify broken")

# %% [markdown]
# ## 9. As fast as you need
#
# Every layer is a small machine of its own, and all run at the same time; streams (**FIFOs**: queues in hardware)
# connect them. How many multiplications a layer does at once is its **folding**: more are faster and take more logic.
# Ask for a frame rate, and the cheapest folding that reaches it is chosen, exactly. At 200 MHz (a clock of 5 ns):

# %%
for rate in (100_000, 300_000, 1_000_000):
    try:
        design = broadaxe.compile("digits.onnx", "fast", target_fps=rate)
    except broadaxe.RequestError as error:
        print(f"{rate:9,} frames/s asked: {error}")
        continue
    made = broadaxe.report(design)
    folds = ", ".join(f"{layer.name} {layer.pe}x{layer.simd}" for layer in made.layers)
    taken = made.resources
    print(f"{rate:9,} frames/s asked: {made.frames_per_second:9,.0f}, {taken.lut:6,.0f} LUT, {taken.dsp} DSP; {folds}")

# %% [markdown]
# A FIFO that is too short stops the machines that it connects, in the worst case forever (a **deadlock**). Broadaxe
# computes two depths, in words, from what each machine is proven to do: `least`, with which it cannot lock up, and
# `depth`, with which images also follow each other at full rate.

# %%
deepest = sorted(report.fifos, key=lambda fifo: -fifo.depth)[:4]
for fifo in deepest:
    print(f"{fifo.writer} to {fifo.reader}: least {fifo.least}, depth {fifo.depth}, {fifo.bits} bits a word")

# %% [markdown]
# ## 10. How narrow can it be?
#
# A **sweep** quantizes with every budget that you name and shows what accuracy each buys, on images that chose
# nothing else. The second number of a pair is on test images; bits of weights (W) and activations (A) of the best run
# stand beside it.

# %%
from broadaxe.search import sweep

found = sweep(
    network,
    x_train[:300],
    (x_val, y_val),
    "sweep",
    test=(x_test, y_test),
    acc_bits="7:11:2",
    weight_bits=(4,),
    act_bits=4,
    methods="axe,best",
    jobs=1,
)
print(found)

# %% [markdown]
# `axe` is the published method, `best` Broadaxe's own, the default. The folder `sweep` has a plot, all runs as CSV,
# and the models of the table, ready to compile.
#
# ## 11. Two builds side by side
#
# What do two bits less buy, and what do they cost? The same network under a budget of 10 bits, at the same rate:

# %%
narrow = broadaxe.quantize(network, x_train, acc_bits=10, weight_bits=4, act_bits=4)
broadaxe.compile(narrow, "narrow", calibration=x_train, target_fps=100_000)
print(broadaxe.compare("build", "narrow", x_test, y_test))

# %% [markdown]
# Layer by layer what A has, what B has, and the change; `compare` also says whether two builds compute the same function.
# Two bits less in every accumulator, and as many test images right (0.44 % are two of them). Registers get smaller at once;
# a network of this size has few of them, and FIFOs and control cost what they did.
#
# ## 12. The project for the vendor's tools
#
# Everything so far was g++ and proofs. Now the vendor: every build has scripts for Vivado HLS and Vitis HLS.
# **Co-simulation** is their last check: the tool turns the C++ into a circuit and runs that circuit, cycle by cycle,
# on inputs whose outputs are known.

# %%
print(*sorted(path.name for path in (build.path / "vendor").iterdir()), sep="  ")
run("broadaxe cosim build --step cosim")

# %% [markdown]
# Without the tool, the message says what to do: copy the folder to a computer that has it, run the two scripts there,
# bring `vendor/` back and read it with `broadaxe cosim build --read vendor`. That prints, for the design and each
# layer, cycles and resources as the tool measured them beside those of the model above, and loops that it could not
# start every cycle. It also writes the pipeline lengths that it found to `latencies.yaml`; with `broadaxe compile
# --latencies` FIFOs are then sized by those instead of by assumptions.
#
# No vendor tool has run the designs of this tutorial. The scripts follow the vendor's documents; a first run may find
# a mistake in them, and `broadaxe cosim build --bundle report.zip` packs what a bug report needs.
#
# ## 13. One page with all of it

# %%
run("broadaxe report build --html report.html --sweep sweep")

# %% [markdown]
# Open it in a browser: the network as a graph with widths on its edges, every layer with its channels, the proven
# interval beside the observed one, witnesses, FIFOs and the sweep. It is one file that needs no network, so it can go
# to a colleague as it is.
#
# ## Where to go on
#
# - Your own model: `broadaxe quantize MODEL.onnx --calib x.npz --acc-bits 16 -o q.onnx`, for files from PyTorch,
#   Brevitas, Keras or QDQ tools.
# - `broadaxe COMMAND --help` has examples for every command; `docs/` has the guarantee and its proof, and the limits.
