"""What each part of the encoder saves: the bytes of all deltas with it, and with it left out.

python -m benches.savings [CORPUS ...]      one table; `make bench-savings` builds what can leave parts out

Sums over all frames but the first, at level 3; every frame is decoded and compared. What a base spares of
names is what one record of each shape takes without its values.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import snapdelta
from benches import corpora, sizes

SITE = Path(__file__).parents[1] / ".benchmarks" / "savings" / "site"
# In the order of DESIGN: what SNAPDELTA_LEAVE_OUT names, and what stands in the table.
PARTS = {
    "columns": "other columns",
    "numbers": "one domain",
    "text": "base's text",
    "row_sets": "row sets",
    "entropy": "entropy",
}
_ROW = "{:16} {:>11}" + " {:>15}" * (len(PARTS) + 2)


def _shape(record: Any) -> Any:
    return {key: _shape(value) for key, value in record.items()} if isinstance(record, dict) else None


def names_and_shapes(corpus: str) -> int:
    """Bytes that the names and shapes of the first frame take, once for each delta."""
    first, *others = corpora.frames(corpus)
    shapes = {repr(shape := _shape(record)): shape for record in first.values()}
    alike = {str(number): shape for number, shape in enumerate(shapes.values())}
    return len(snapdelta.dumps(alike, level=3)) * len(others)


def without(parts: list[str], corpus: str) -> int:
    """Bytes of the corpus's deltas, of an encoder without these parts."""
    environment = {**os.environ, "SNAPDELTA_LEAVE_OUT": ",".join(parts), "PYTHONPATH": str(SITE)}
    command = [sys.executable, "-m", "benches.savings", "--bytes", corpus]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(run.stdout)


def main(arguments: list[str]) -> int:
    match arguments:
        case ["--bytes", corpus]:
            print(sum(map(len, sizes.deltas(corpus))))
            return 0
    known = [*corpora.names(), *corpora.SIZE_CORPORA]
    if unknown := [name for name in arguments if name not in known]:
        print(f"savings: no corpus {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    print(_ROW.format("corpus", "bytes", *PARTS.values(), "all of them", "names, shapes"))
    for corpus in arguments or known:
        own = without([], corpus)
        left_out = [*([part] for part in PARTS), list(PARTS)]
        more = (f"{without(parts, corpus) / own - 1:+.1%}" for parts in left_out)
        names = f"{names_and_shapes(corpus) / own:+.1%}"
        print(_ROW.format(corpus, f"{own:,}", *more, names), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
