"""Wait until a service that writes to a log shows live people, and say where its page is; --open opens it in a browser."""

import argparse
import json
import re
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path


def live(address: str, key: str) -> dict[str, object]:
    """What the service shows at this moment."""
    asked = urllib.request.Request(f"{address}/api/v1/live", headers={"X-API-Key": key})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        found: dict[str, object] = json.load(answer)
    return found


def main() -> None:
    """Read the address, the link and the key from the log; ask until somebody is seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--open", action="store_true")
    given = parser.parse_args()
    ends, now = time.monotonic() + given.seconds, dict[str, object]()
    while time.monotonic() < ends:
        said = given.log.read_text()
        page = re.search(r"(?m)^\S+: (https?://\S+)$", said)
        link, key = (
            re.search(rf"{before}: (\S+)", said) for before in ("Administrator, once", "API key, shown this once")
        )
        if page and link and key:
            try:
                now = live(page[1], key[1])
            except (urllib.error.URLError, ConnectionError):
                now = {}
            if now.get("seen") or now.get("entries"):
                print(f"The page: {page[1]}; choose the administrator's password at {link[1]}")
                print(
                    f"At this moment: {now['seen']} people in view, {now['entries']} entries and {now['exits']} exits today"
                )
                if given.open:
                    webbrowser.open(link[1])
                return
        time.sleep(1)
    sys.exit(f"{given.log}: nobody was seen in {given.seconds:.0f} s:\n{given.log.read_text()[-2000:]}")


if __name__ == "__main__":
    main()
