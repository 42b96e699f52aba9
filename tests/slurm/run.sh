#!/bin/bash
# The report's ten runs, cut short, as an array of Slurm jobs on two nodes, one of which dies in the middle of a run.
#
#     apt-get install slurmctld slurmd slurm-client munge
#     tests/slurm/run.sh [PYTHON]          as root, with CIFAR-10 in place; about seven minutes on two cores
#
# PYTHON is the repository's .venv/bin/python if none is given. All is on this machine, in a process namespace, so that
# nothing is left running; each node has another one inside, so that all its processes die with it.

set -euo pipefail
[ $$ = 1 ] || exec unshare --pid --fork --kill-child --mount-proc "$0" "$@"

root=$(realpath "$(dirname "$0")/../..")
python=$(realpath --no-symlinks "$(command -v "${1:-$root/.venv/bin/python}")")
hash munged slurmctld slurmd sbatch
cd "$root"
work=$(mktemp -d)
trap 'echo "Failed in line $LINENO." >&2' ERR
trap '[ ! -e "$work" ] || echo "The logs are in $work." >&2' EXIT
export SLURM_CONF=$work/slurm.conf

wait_until() {
    for _ in $(seq 900); do
        "$@" && return
        sleep 1
    done
    echo "Not within 15 minutes: $*" >&2
    exit 1
}

# ---------------------------------------------------------------- a cluster

mkdir "$work"/{state,node1,node2}
(umask 077 && head -c 1024 /dev/urandom > "$work/key")
cat > "$SLURM_CONF" << END
ClusterName=lab
SlurmctldHost=$(hostname)
SlurmUser=root
# a job that is queued again waits until its credential would have expired, two minutes as it comes
AuthInfo=socket=$work/munge,cred_expire=10
StateSaveLocation=$work/state
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/%n.pid
SlurmdSpoolDir=$work/%n
# seconds after which a silent node is down; it may come back
SlurmdTimeout=10
ReturnToService=2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
MpiDefault=none
NodeName=node1 NodeHostname=$(hostname) Port=6821 CPUs=1
NodeName=node2 NodeHostname=$(hostname) Port=6822 CPUs=1
PartitionName=all Nodes=ALL Default=YES
END

declare -A process
start() {
    unshare --pid --fork --kill-child --mount-proc slurmd -D -N "$1" &>> "$work/$1.log" &
    process[$1]=$!
}
idle() { [ "$(sinfo --noheader --Node --states=idle | wc -l)" = "$1" ]; }
down() { [[ $(sinfo --noheader --nodes="$1" --format=%T) == down* ]]; }
queue_is_empty() { queue=$(squeue --noheader) && [ -z "$queue" ]; }

munged --foreground --force --key-file="$work/key" --socket="$work/munge" --pid-file="$work/munge.pid" \
    --log-file="$work/munge.log" --seed-file="$work/munge.seed" &> "$work/munged.log" &
wait_until test -S "$work/munge"
slurmctld -D &> "$work/slurmctld.log" &
start node1
start node2
wait_until idle 2
sinfo --Node

# ---------------------------------------------------------------- both nodes find CIFAR-10 missing, and download it

"$python" - "$work" << 'END'
import hashlib, json, sys, tarfile
from pathlib import Path
from lab import cifar10, flags

server = Path(sys.argv[1], "server")
server.mkdir()
with tarfile.open(server / cifar10.ARCHIVE, "w:gz", compresslevel=1) as tar:
    tar.add(cifar10.find(flags.ROOT) / cifar10.FOLDER, cifar10.FOLDER)
digest = hashlib.md5((server / cifar10.ARCHIVE).read_bytes()).hexdigest()
source = {"ARCHIVE_MD5": digest, "SOURCES": [f"http://localhost:6823/{cifar10.ARCHIVE}"]}
Path(sys.argv[1], "source.json").write_text(json.dumps(source))
END
"$python" -u -m http.server 6823 --directory "$work/server" &> "$work/server.log" &
wait_until grep --quiet Serving "$work/server.log"
srun --nodes=2 --label "$python" -c "
import json, os, time
from pathlib import Path
from lab import cifar10
work = Path('$work')
vars(cifar10).update(json.loads((work / 'source.json').read_text()))
(work / ('ready' + os.environ['SLURM_PROCID'])).touch()
while len(list(work.glob('ready?'))) < 2:
    time.sleep(0.01)
cifar10.download(work / 'data')"
[ "$(grep --count 'GET .* 200' "$work/server.log")" = 2 ]

# ---------------------------------------------------------------- ten runs, by README's command; a node dies

list() {
    "$python" report.py --list --limit 500 --epochs 10 --device cpu --data-dir "$work/data" --output-dir "$work/$1"
}
list slurm > "$work/runs.txt"
command=$(grep '^sbatch' README.md)
command=${command//=2/=1} # one core for each node
job=$(cd "$work" && eval "${command/sbatch/sbatch --parsable}")
log=$work/slurm-${job}_2.out
wait_until grep --quiet --no-messages '^Epoch  2/10  lr' "$log"
squeue
node=$(squeue --noheader --jobs="${job}_2" --format=%N)
{ kill -9 "${process[$node]}" && wait "${process[$node]}"; } 2> /dev/null || true
wait_until down "$node"
echo "$node is dead, and ResNet-18 with it."
queued_again() { scontrol show job "${job}_2" | grep --quiet ' Restarts=1 '; }
wait_until queued_again
start "$node"
wait_until queue_is_empty
grep --line-number '^Data:\|^Epoch ' "$log"
[ "$(grep --count '^Data:' "$log")" = 2 ]           # two processes have trained it,
[ "$(grep --count '^Epoch  1/10  lr' "$log")" = 1 ] # and the second went on where the first was

# ---------------------------------------------------------------- the same without Slurm

list plain | tr '\n' '\0' | OMP_NUM_THREADS=1 xargs -0 -n 1 -P 2 sh -c > "$work/plain.log"
"$python" - "$work" << 'END'
import json, sys
from pathlib import Path
from lab import cifar10

slurm, plain, data = (Path(sys.argv[1], name) for name in ("slurm", "plain", "data"))
records = sorted(path.name for path in (plain / "plots").glob("*.json"))
assert len(records) == 10
for name in records:
    one, other = (json.loads((folder / "plots" / name).read_text()) for folder in (slurm, plain))
    for record in (one, other):
        del record["environments"]
        for epoch in record["history"]:
            del epoch["seconds"]
    assert one == other, name
for folder in (slurm, plain):
    left = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert left == sorted(name.replace(".json", ".pt") for name in records), left  # no lock, no state
one, other = (sorted(path.name for path in (folder / "plots").iterdir()) for folder in (slurm, plain))
assert one == other and not [name for name in one if name.startswith(".") or ".live." in name], one
assert sorted(path.name for path in data.iterdir()) == [cifar10.FOLDER, cifar10.ARCHIVE]
assert not cifar10.damaged(data)
print("All ten records are those of the runs without Slurm, but for seconds and environments. Nothing else is left.")
END
{ kill -9 -1 && wait; } &> /dev/null || true # all others in this namespace
rm -rf "$work"
