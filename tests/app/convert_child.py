"""Stands in for `python -m engine convert` where a test needs one that fails, breaks off or never ends.

The name of the model says which: "fails-CODE", "breaks", else it tells how far it is and waits to be ended.
"""

import json
import sys
import threading
from pathlib import Path

arguments = dict(zip(sys.argv[3::2], sys.argv[4::2], strict=True))
source, target = Path(arguments["--model"]), Path(arguments["--to"])


def tell(**fields: object) -> None:
    sys.stderr.write(json.dumps(fields) + "\n")
    sys.stderr.flush()


work = target.with_name(f"{target.name}.unfinished")
work.mkdir(parents=True, exist_ok=True)
(work / "conversion.jsonl").write_text(
    json.dumps({"rooftop": 4, "source": str(source), "format": arguments["--format"]}) + "\n"
)
tell(phase="converting", done_bytes=30, total_bytes=120, seconds_left=90.0)
if source.name.startswith("fails-"):
    template, values = "{path} is odd.", [["path", "This"]]
    message = {"text": "This is odd.", "template": template, "values": values, "amount": -1}
    tell(error=source.name.removeprefix("fails-"), message=message, remedy="Mend it.")
    sys.stderr.write("engine: This is odd. Mend it.\n")
    sys.exit(2)
if source.name == "breaks":
    sys.exit(9)
tell(phase="verifying", done_bytes=60, total_bytes=120, seconds_left=45.0)
threading.Event().wait()
