"""deploy/block_design.tcl, executed in tclsh against commands, cells and pins of Vivado alone (tests/vivado.tcl)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from models import Network, small_cnn
from onnx import TensorProto, helper

import broadaxe

pytestmark = pytest.mark.skipif(shutil.which("tclsh") is None, reason="no tclsh; apt-get install tcl")
RECORDER = Path(__file__).parent / "vivado.tcl"
ZYNQ, MPSOC, RFSOC = "xc7z020clg400-1", "xczu7ev-ffvc1156-2-e", "xczu28dr-ffvg1517-2-e"


def wide(lanes):
    """One matrix whose input and output words hold all their elements: beats of 3, 5 or 160 bytes."""
    net = Network(lanes, batch=1, seed=1)
    y = net.quant(net.node("MatMul", net.quant("x", 0.25, bits=8), net.weights(lanes, lanes)), 0.25, bits=8)
    return net.finish(y)


def several():
    net = Network(2, 3, batch=1, seed=3)
    net.inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 12]) for name in "abc"]
    outputs = [net.quant(net.node("MatMul", net.quant(n, 0.25), net.weights(12, 6)), 0.5) for n in "ab"]
    outputs.append(net.node("MatMul", net.quant("c", 0.25, bits=13), net.weights(12, 6)))
    outputs.append(net.node("MatMul", outputs[0], net.weights(6, 3)))
    return net.finish(*outputs)


def crowded():
    net = Network(2, batch=1, seed=3)
    net.inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "abcdefghi"]
    return net.finish(*(net.node("MatMul", net.quant(n, 0.25), net.weights(2, 2)) for n in "abcdefghi"))


MODELS = {
    "cnn": lambda: (small_cnn(), {}),
    "3 bytes": lambda: (wide(3), {"folding": {"matmul0": {"pe": 3, "simd": 3}}}),
    "160 bytes": lambda: (wide(160), {"folding": {"matmul0": {"pe": 160, "simd": 160}}}),
    "128 bytes": lambda: (wide(128), {"folding": {"matmul0": {"pe": 128, "simd": 128}}}),
    "256 bytes": lambda: (wide(256), {"folding": {"matmul0": {"pe": 128, "simd": 256}}}),
    "many ports": lambda: (crowded(), {}),
    "several ports": lambda: (several(), {}),
}


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    made = {}

    def build(name, **options):
        key = (name, *options.items())
        if key not in made:
            model, folding = MODELS[name]()
            made[key] = broadaxe.compile(model, tmp_path_factory.mktemp("builds") / "build", **folding, **options)
        return made[key]

    return build


def vivado(build, tmp_path, *arguments, part=ZYNQ, control="s_axi_control", slack="0.1", suffix="", generated="gen"):
    """Exit status, records and the error of a run of the script."""
    ports = [(p.name + suffix, "in", p.bits // 8) for p in build.flow.inputs]
    ports += [(p.name + suffix, "out", p.bits // 8) for p in build.flow.outputs]
    given = ["-ip_repo", "ip", "-part", part, "-output", str(tmp_path / "out"), *arguments]
    command = ["tclsh", RECORDER, part, build.top, " ".join(f"{n} {d} {b}" for n, d, b in ports)]
    if build.settings.control == "ap_ctrl_none":
        control = ""
    env = os.environ | {
        "CONTROL": control,
        "SLACK": slack,
        "PROJECT": str(tmp_path / "out"),
        "GENERATED": generated,
    }
    script = build.path / "deploy" / "block_design.tcl"
    done = subprocess.run([*command, script, *given], capture_output=True, text=True, env=env, check=False)
    assert not done.stderr
    records = [line.split(" ", 2)[1:] for line in done.stdout.splitlines() if line.startswith("RECORD ")]
    error = next((line[6:] for line in done.stdout.splitlines() if line.startswith("ERROR ")), "")
    return done.returncode, [(kind, rest[0] if rest else "") for kind, *rest in records], error


@pytest.mark.parametrize("part", [ZYNQ, MPSOC, RFSOC])
@pytest.mark.parametrize("model", [name for name in MODELS if name != "many ports"])
def test_every_pin_is_connected_and_every_width_fits(builds, tmp_path, model, part):
    build = builds(model)
    status, records, error = vivado(build, tmp_path, part=part)
    assert (status, error) == (0, "")
    assert ("valid", "") in records
    assert ("saved", "") in records
    found = {rest.split()[0]: rest.split()[1] for kind, rest in records if kind == "cell"}
    pairs = max(len(build.flow.inputs), len(build.flow.outputs))
    assert [core for core in found.values() if core == "axi_dma"] == ["axi_dma"] * pairs
    assert found["ps"] == ("processing_system7" if part == ZYNQ else "zynq_ultra_ps_e")
    converters = {name: core for name, core in found.items() if core.startswith("axis_")}
    for port in (*build.flow.inputs, *build.flow.outputs):
        size = port.bits // 8
        power = size & (size - 1) == 0
        cores = {core for name, core in converters.items() if name.startswith(f"{port.name}_")}
        expected = {*([] if power else ["axis_subset_converter"]), *(["axis_dwidth_converter"] if size > 128 else [])}
        assert cores == expected
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_file()) == [
        f"{build.top}.bit",
        f"{build.top}.hwh",
    ]


def test_projects_of_older_tools(builds, tmp_path):
    """Vivado HLS calls control registers AXILiteS and may put _V behind a port; Vivado 2020.1 writes below .srcs."""
    status, records, error = vivado(
        builds("3 bytes", tool="vivado"),
        tmp_path,
        control="s_axi_AXILiteS",
        suffix="_V",
        generated="srcs",
    )
    assert (status, error) == (0, "")
    assert ("interface", "control/M01_AXI accelerator/s_axi_AXILiteS") in records
    assert ("interface", "dma0/M_AXIS_MM2S in0_beats/S_AXIS") in records
    assert ("interface", "in0_beats/M_AXIS accelerator/in0_V") in records


def test_an_accelerator_without_control_registers(builds, tmp_path):
    status, records, error = vivado(builds("cnn", control="ap_ctrl_none"), tmp_path, "-until", "design")
    assert (status, error) == (0, "")
    assert ("property", "control CONFIG.NUM_MI 1") in records
    assert not any(kind == "run" for kind, _ in records)


def test_options(builds, tmp_path):
    build = builds("cnn")
    status, records, _ = vivado(
        build, tmp_path, "-clock_mhz", "125", "-jobs", "7", "-board_part", "tul.com.tw:pynq-z2:part0:1.0"
    )
    assert status == 0
    assert ("property", "ps CONFIG.PCW_FPGA0_PERIPHERAL_FREQMHZ 125") in records
    assert ("property", "project board_part tul.com.tw:pynq-z2:part0:1.0") in records
    assert ("run", "{-to_step write_bitstream -jobs 7}") in records
    assert any(kind == "automation" and "apply_board_preset 1" in rest for kind, rest in records)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (["-clock"], {}, "arguments: -clock stands alone; give each option a value"),
        (
            ["-clock", "5"],
            {},
            "arguments: -clock is unknown; there are -ip_repo -part -board_part -clock_mhz -output -until -jobs",
        ),
        (["-ip_repo", ""], {}, "arguments: -ip_repo is missing; give it"),
        (
            [],
            {"part": "xc7a100tcsg324-1"},
            "-part: xc7a100tcsg324-1 is of family artix7; this design needs a Zynq-7000 or Zynq UltraScale+ part",
        ),
        ([], {"slack": "-0.2"}, "timing: WNS is -0.2 ns; give a lower -clock_mhz than 200"),
        (
            [],
            {"control": "s_axi_other"},
            "accelerator: has none of s_axi_control, s_axi_AXILiteS; export the accelerator of this build",
        ),
    ],
)
def test_refusals(builds, tmp_path, arguments, options, message):
    status, _, error = vivado(builds("cnn"), tmp_path, *arguments, **options)
    assert (status, error) == (1, message)
    assert not list(tmp_path.glob("out/*.bit"))


def test_more_ports_than_one_interconnect_has(builds, tmp_path):
    assert vivado(builds("many ports"), tmp_path)[::2] == (
        1,
        "net_top: has 9 inputs and 9 outputs; one SmartConnect connects 16 ports of DMAs, share a DMA by hand",
    )


def test_the_recorder_notices(builds, tmp_path):
    """A line less, a width more: what the script connects is what the recorder asks for."""
    build = builds("3 bytes")
    script = build.path / "deploy" / "block_design.tcl"
    text = script.read_text()
    damages = {
        r"^clock resets/.*\n": "validate_bd_design: resets/slowest_sync_clk has no driver",
        r"^connect \$from dma0/S_AXIS_S2MM\n": "validate_bd_design: dma0/S_AXIS_S2MM is not connected",
        r"c_m_axis_mm2s_tdata_width 32": "validate_bd_design: 3 bytes",
        r"reset \{control/aresetn": "get_bd_pins: control has no aresetnn",
    }
    replacements = {
        r"c_m_axis_mm2s_tdata_width 32": "c_m_axis_mm2s_tdata_width 16",
        r"reset \{control/aresetn": "reset {control/aresetnn",
    }
    expected = damages | {r"c_m_axis_mm2s_tdata_width 32": "validate_bd_design: 2 bytes into in0_beats/S_AXIS of 4"}
    try:
        for pattern, message in expected.items():
            damaged = re.sub(pattern, replacements.get(pattern, ""), text, count=1, flags=re.MULTILINE)
            assert damaged != text
            script.write_text(damaged)
            assert vivado(build, tmp_path)[2] == message
    finally:
        script.write_text(text)
