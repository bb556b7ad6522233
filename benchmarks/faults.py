"""What goes wrong with live cameras: how long each fault lasts for a viewer after the camera is well again.

    python benchmarks/faults.py

Every fault of loopback.py begins at once, each with a camera of its own on this machine's loopback, beside two cameras that
stay well; after a minute (--outage-s) all end. Printed for each: the seconds from then to the first new frame (of the new
size, where the resolution changed: that fault and a jump in time have no outage), the seconds that were counted as lost,
reconnects, corrupt packets and pictures, jumps in time, and what the camera's state said last before the end. Writes nothing.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from loopback import LARGE, SMALL, HttpCamera, RtspCamera, faults, has_rtsp
from passerby.reid.engine import processor
from passerby.shop import Frame
from passerby.vision.readers import Readers, Source, State

WELL = ("well, mjpeg", "well, mpegts")


@dataclass
class Watched:
    """What was seen of one camera."""

    arrivals_s: list[float] = field(default_factory=list)  # of its frames, on this process's clock
    frames: list[Frame] = field(default_factory=list)  # their pictures cut down to a pixel
    sizes: list[tuple[int, int]] = field(default_factory=list)
    recovered_s: float | None = None  # from the fault's end to the first new frame
    during: str = ""  # what its state said just before the fault's end
    state: State | None = None  # at the end

    def longest_gap_s(self) -> float:
        """The longest time between two frames."""
        return max((b - a for a, b in zip(self.arrivals_s, self.arrivals_s[1:], strict=False)), default=0.0)


def watch(*, outage_s: float, wait_scale: float, rtsp: bool, patience_s: float = 60.0) -> dict[str, Watched]:
    """Go through all faults at once; each camera's name is its fault's."""
    table = faults(rtsp=rtsp)
    cameras: dict[str, HttpCamera | RtspCamera] = {name: fault.make() for name, fault in table.items()}
    cameras |= {name: HttpCamera(name.rpartition(" ")[2]) for name in WELL}
    seen = {name: Watched() for name in cameras}

    def look(readers: Readers, until: Callable[[], bool], *, longest_s: float) -> None:
        end_s = time.monotonic() + longest_s
        while time.monotonic() < end_s and not until():
            for frame in readers.newest(timeout_s=0.1):
                mine = seen[frame.camera]
                mine.arrivals_s.append(time.monotonic())
                mine.sizes.append((frame.picture.shape[1], frame.picture.shape[0]))
                mine.frames.append(Frame(frame.camera, frame.time, frame.picture[:1, :1].copy()))

    def first_after(name: str, at_s: float) -> float | None:
        new_size = "resolution" in name
        mine = seen[name]
        return next(
            (
                arrival - at_s
                for arrival, size in zip(mine.arrivals_s, mine.sizes, strict=True)
                if arrival > at_s and (size == LARGE or not new_size)
            ),
            None,
        )

    try:
        with Readers({n: Source(c.address) for n, c in cameras.items()}, wait_scale=wait_scale) as readers:
            look(readers, lambda: all(len(mine.arrivals_s) >= 10 for mine in seen.values()), longest_s=patience_s)
            begins_s = time.monotonic()
            for name, fault in table.items():
                fault.begin(cameras[name])
            look(readers, lambda: False, longest_s=outage_s)
            for name, state in readers.states().items():
                seen[name].during = state.reason.removeprefix(f"{name}: ")
            ended_s = {}
            for name, fault in table.items():
                fault.end(cameras[name])
                ended_s[name] = begins_s if "resolution" in name or "jumps" in name else time.monotonic()
            look(readers, lambda: all(first_after(n, s) is not None for n, s in ended_s.items()), longest_s=patience_s)
            look(readers, lambda: False, longest_s=2.0)
            for name, state in readers.states().items():
                seen[name].state = state
                seen[name].recovered_s = first_after(name, ended_s[name]) if name in ended_s else None
    finally:
        for camera in cameras.values():
            if isinstance(camera, RtspCamera):
                camera.go_on()
            camera.down()
    return seen


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outage-s", type=float, default=60.0)
    options = parser.parse_args()
    seen = watch(outage_s=options.outage_s, wait_scale=1.0, rtsp=has_rtsp())
    print(f"{processor()}; an outage of {options.outage_s:g} s, pictures of {SMALL[0]}x{SMALL[1]}\n")
    print("| fault | recovered after, s | counted as lost, s | reconnects | corrupt | jumps | state before the end |")
    print("|---|---|---|---|---|---|---|")
    for name, mine in seen.items():
        if (state := mine.state) is not None and name not in WELL:
            recovered = "never" if mine.recovered_s is None else f"{mine.recovered_s:.1f}"
            counts = f"{state.lost_s:.0f} | {state.reconnects} | {state.skipped} | {state.jumps}"
            print(f"| {name} | {recovered} | {counts} | {mine.during} |")
    gaps = [f"{seen[name].longest_gap_s():.1f} s" for name in WELL]
    print(f"\ncameras that were well: longest time between two frames {' and '.join(gaps)}")


if __name__ == "__main__":
    main()
