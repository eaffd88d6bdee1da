"""Drives the accelerator on an Alveo or Versal card through XRT's Python module pyxrt; packing and facts are driver.py's.

accelerator = Accelerator("design.xclbin")
results = accelerator(images)               # the model's outputs by name
codes = accelerator.run({"in0": integers})  # integers in, integers out
"""

from __future__ import annotations

import numpy as np
from driver import HERE, Design, PortError

WORD = 64
"""Bytes of a word of the data movers' memory."""
LARGEST = 1 << 30
"""Bytes of a buffer; the movers count bytes in 32 bits."""


class Accelerator:
    """A linked design: a data mover for each port, the accelerator between them.

    Args:
        xclbin: what v++ --link wrote.
        device: number of the card.
        folder: where ports.json is.
        frames: that the buffers hold; more are sent in turns.
        timeout: seconds for the movers to finish.
    """

    def __init__(self, xclbin, *, device=0, folder=HERE, frames=256, timeout=10.0):
        import pyxrt

        self._xrt = pyxrt
        self.design = Design(folder)
        self._milliseconds = int(1000 * timeout)
        largest = max(port.stride for port in (*self.design.inputs, *self.design.outputs))
        self.frames = max(1, min(frames, LARGEST // largest))
        card = pyxrt.device(device)
        uuid = card.load_xclbin(pyxrt.xclbin(str(xclbin)))

        def mover(kind, port, stride):
            kernel = pyxrt.kernel(card, uuid, f"{kind}_{port.name}", pyxrt.kernel.shared)
            size = -(-self.frames * stride // WORD) * WORD
            return kernel, pyxrt.bo(card, size, pyxrt.bo.normal, kernel.group_id(0)), size

        self._senders = {port.name: mover("mm2s", port, port.frame) for port in self.design.inputs}
        self._receivers = {port.name: mover("s2mm", port, port.stride) for port in self.design.outputs}
        self._frame = None
        if self.design.control != "ap_ctrl_none":
            self._frame = pyxrt.run(pyxrt.kernel(card, uuid, self.design.top, pyxrt.kernel.shared))

    def __call__(self, data):
        """The model's outputs by name, for arrays by model input, batch first."""
        return self.design.reals(self.run(self.design.codes(data)))

    def run(self, codes):
        """Codes by output port for codes by input port, shape (frames, *shape of the stream)."""
        count = self.design.frames_of(codes)
        parts = []
        for at in range(0, count, self.frames):
            memory = {port.name: port.pack(codes[port.name][at : at + self.frames]) for port in self.design.inputs}
            received = self.transfer(memory)
            parts.append({port.name: port.unpack(received[port.name]) for port in self.design.outputs})
        return {port.name: np.concatenate([part[port.name] for part in parts]) for port in self.design.outputs}

    def transfer(self, memory):
        """Frames in memory by output port for those by input port, shape (frames, frame); at most `self.frames`."""
        direction = self._xrt.xclBOSyncDirection
        count = len(next(iter(memory.values())))
        for port in self.design.inputs:
            _, buffer, size = self._senders[port.name]
            buffer.write(np.ascontiguousarray(memory[port.name]).reshape(-1), 0)
            buffer.sync(direction.XCL_BO_SYNC_BO_TO_DEVICE, size, 0)
        runs = {f"s2mm_{name}": kernel(buffer, count) for name, (kernel, buffer, _) in self._receivers.items()}
        runs.update({f"mm2s_{name}": kernel(buffer, count) for name, (kernel, buffer, _) in self._senders.items()})
        if self._frame is not None:
            for _ in range(count):  # a start for each frame; ap_ctrl_none needs none
                self._frame.start()
                self._finish(self.design.top, self._frame)
        for name, run in reversed(list(runs.items())):
            self._finish(name, run)
        received = {}
        for port in self.design.outputs:
            _, buffer, size = self._receivers[port.name]
            buffer.sync(direction.XCL_BO_SYNC_BO_FROM_DEVICE, size, 0)
            strided = np.asarray(buffer.read(count * port.stride, 0)).view(np.uint8).reshape(count, port.stride)
            received[port.name] = strided[:, : port.frame]
        return received

    def _finish(self, name, run):
        if run.wait(self._milliseconds) != self._xrt.ert_cmd_state.ERT_CMD_STATE_COMPLETED:
            raise PortError(f"{name}: is not done; check that the xclbin is this build's")
