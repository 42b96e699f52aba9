"""What is each ingredient of SimpleCNN's recipe worth? Take one away at a time, and look at the validation accuracy.

    python benchmarks/ingredients.py             eight runs of task 1, one after the other
    python benchmarks/ingredients.py --resume    the same, but goes on with the runs in checkpoints/ingredients

In place of an ingredient stands what the original has. Each result is written into benchmarks/ingredients.json, which
REPORT.md quotes. An ingredient that is there already is not taken away again, unless the recipe has changed since.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import task1_simplecnn
from benchmarks.variants import keep, passed_on, results_in, train
from lab import flags
from lab.beyond import INGREDIENTS, TAKEN_AWAY
from task1_simplecnn import DEFAULTS, RECIPE

RUNS = flags.ROOT / "checkpoints" / "ingredients"


def main(argv: list[str]) -> None:
    argv, results = passed_on(__doc__, argv), results_in(INGREDIENTS)
    if results.get("recipe") != RECIPE:
        results = {"recipe": RECIPE, "runs": []}
    for name in TAKEN_AWAY:
        if name not in [run["without"] for run in results["runs"]]:
            changed = {"__doc__": __doc__, "RECIPE": RECIPE | {name: (flags.PLAIN | DEFAULTS)[name]}}
            found = train(task1_simplecnn, __file__, argv, ["--recipe"], RUNS / name, **changed)
            keep({"without": name} | found, results, INGREDIENTS)


if __name__ == "__main__":
    main(sys.argv[1:])
