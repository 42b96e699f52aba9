"""Run a task script with one fault planted in it, at an exact moment in the life of one of its files.

    python planted.py FAULT MOMENT FILE COUNT SCRIPT FLAG...

FAULT    a signal that the process sends to itself (SIGKILL, SIGINT), or an error that a system call returns (ENOSPC)
MOMENT   opened    nothing is written yet
         half      half of it is written (of a picture: of its first piece)
         written   all of it is written
         synced    it is on the disk, and about to get its name
         named     it has just got its name
         removing  it is about to be removed
FILE     the name that the file gets in the end
COUNT    at which of its writings, from 1; or after how many
"""

import builtins
import errno
import io
import os
import pathlib
import runpy
import signal
import sys

FAULT, MOMENT, FILE, COUNT, SCRIPT = sys.argv[1:6]
sys.argv[:] = sys.argv[5:]
sys.path.insert(0, os.path.dirname(SCRIPT))

from lab import files  # noqa: E402

writings, replace, fsync, unlink, atomic_write = [], os.replace, os.fsync, pathlib.Path.unlink, files.atomic_write


def reach(moment: str, name: str) -> None:
    if (moment, name) == (MOMENT, FILE) and writings.count(name) in (int(COUNT), 0):
        if not FAULT.startswith("SIG"):
            raise OSError(getattr(errno, FAULT), os.strerror(getattr(errno, FAULT)), name)
        os.kill(os.getpid(), getattr(signal, FAULT))


class PlantedFile(io.BufferedWriter):
    def write(self, content):
        reach("opened", writings[-1])
        half = len(content) // 2
        super().write(content[:half])
        self.flush()
        reach("half", writings[-1])
        return half + super().write(content[half:])


def planted_atomic_write(path, content, owner):
    writings.append(path.name)
    atomic_write(path, content, owner)


def planted_open(path, mode="r", **how):
    return PlantedFile(io.FileIO(path, "w")) if mode == "wb" else builtins.open(path, mode, **how)


def planted_fsync(number):
    if writings and os.path.isfile(number):  # not for a directory
        reach("written", writings[-1])
    fsync(number)


def planted_replace(old, new):
    reach("synced", new.name)
    replace(old, new)
    reach("named", new.name)


def planted_unlink(path, *how, **more):
    reach("removing", path.name)
    unlink(path, *how, **more)


files.atomic_write, files.open = planted_atomic_write, planted_open
os.fsync, os.replace, pathlib.Path.unlink = planted_fsync, planted_replace, planted_unlink
runpy.run_path(SCRIPT, run_name="__main__")
