"""Does an L2 penalty, which the lab report does not mention, explain what its question 7c finds?

    python benchmarks/l2_penalty.py             six runs of task 2; four to eleven hours on two cores
    python benchmarks/l2_penalty.py --resume    the same, but goes on with the runs in checkpoints/l2_penalty

It trains ResNet-18 as task 2 does, but for Adam's weight decay, and writes each result into
benchmarks/l2_penalty.json, which REPORT.md quotes. A run that is there already is not trained again.
"""

import sys
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import task2_resnet18
from benchmarks.variants import keep, passed_on, results_in, train
from lab import flags
from lab.claims import BASELINE, CONSTANT, HIGH, HIGH_CONSTANT, LOW, LOW_CONSTANT
from lab.variants import L2_PENALTY

PENALTY = 5e-4  # usual for CIFAR-10, though with SGD; we tried no other
EXPERIMENTS = (  # each with its epochs; question 8 in REPORT.md says why 20 will do for the first
    (HIGH_CONSTANT, 20),
    (CONSTANT, 80),
    (LOW, 80),
    (BASELINE, 80),
    (HIGH, 80),
    (LOW_CONSTANT, 80),
)
RUNS = flags.ROOT / "checkpoints" / "l2_penalty"


def main(argv: list[str]) -> None:
    argv, results = passed_on(__doc__, argv), {"penalty": PENALTY} | results_in(L2_PENALTY)
    for run, epochs in EXPERIMENTS:
        if run.name not in [it["of"] for it in results["runs"]]:
            words = flags.words(run.changes | {"epochs": epochs})
            with mock.patch.dict(flags.PLAIN, weight_decay=PENALTY):
                found = train(task2_resnet18, __file__, argv, words, RUNS / run.name, __doc__=__doc__)
            keep({"run": f"{flags.title(run.name)}, with an L2 penalty", "of": run.name} | found, results, L2_PENALTY)


if __name__ == "__main__":
    main(sys.argv[1:])
