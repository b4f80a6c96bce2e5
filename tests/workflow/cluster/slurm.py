"""A one-node Slurm cluster on loopback, in a folder of its own: real daemons, started and stopped by the tests.

    python tests/cluster/slurm.py start FOLDER      start munged, slurmctld and slurmd; print what to export
    python tests/cluster/slurm.py stop FOLDER       stop them

Needs Debian's packages slurm-wlm and munge, and root: slurmd refuses to run its jobs as anybody else.
"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
CONFIGURATION = """\
ClusterName=nclens
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
SlurmdTimeout=120
KillWait=20
OverTimeLimit=0
MinJobAge=300
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} State=UNKNOWN
PartitionName=lab Nodes={host} Default=YES MaxTime=1:00:00 State=UP
PartitionName=other Nodes={host} MaxTime=1:00:00 State=UP
"""


def why_not() -> str | None:
    """Say why no cluster can be started here, or None when it can."""
    missing = [name for name in (*DAEMONS, "sbatch", "squeue") if shutil.which(name, path=_path()) is None]
    if missing:
        return f"no {', '.join(missing)}: install Debian's slurm-wlm and munge"
    return None if os.geteuid() == 0 else "the one-node cluster's daemons need root"


class Cluster:
    """Daemons of one cluster, and the environment in which its commands find it."""

    def __init__(self, folder: Path, cpus: int = 2, memory_mb: int = 6000) -> None:
        self.folder = folder.resolve()
        self.cpus, self.memory_mb = cpus, memory_mb

    @property
    def environment(self) -> dict[str, str]:
        """What to set for sbatch, squeue and Snakemake."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": f"{self.folder / 'bin'}{os.pathsep}{_path()}"}

    def start(self) -> None:
        """Start the daemons and wait until the node is idle."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir(exist_ok=True)
        # Inside a job Snakemake's executor drops every SLURM_ variable before it calls srun, which then looks for
        # the configuration in /etc/slurm: a real cluster has it there. And its jobs have the PATH of its node.
        wrapper = self.folder / "bin" / "srun"
        wrapper.write_text(
            f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf PATH="{self.environment["PATH"]}" '
            f'exec {shutil.which("srun")} "$@"\n'
        )
        wrapper.chmod(0o755)
        key = self.folder / "munge.key"
        if not key.exists():
            key.write_bytes(os.urandom(1024))
            key.chmod(0o400)
            shutil.chown(key, "root", "root")
        host = socket.gethostname().split(".")[0]
        text = CONFIGURATION.format(
            folder=self.folder,
            host=host,
            cpus=self.cpus,
            memory_mb=self.memory_mb,
            controller_port=_free_port(),
            node_port=_free_port(),
        )
        (self.folder / "slurm.conf").write_text(text)
        self._run(
            "munged",
            "--force",
            f"--key-file={key}",
            f"--socket={self.folder / 'munge.socket'}",
            f"--pid-file={self.folder / 'munged.pid'}",
            f"--log-file={self.folder / 'munged.log'}",
            f"--seed-file={self.folder / 'munged.seed'}",
        )
        self._run("slurmctld", "-c")
        self.start_node()

    def start_node(self) -> None:
        """Start slurmd and wait until its node takes jobs."""
        self._run("slurmd")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            state = self.ask("sinfo", "--noheader", "--format=%T")
            if state.splitlines() and all(
                line.strip() in ("idle", "mixed", "allocated") for line in state.splitlines()
            ):
                return
            time.sleep(0.5)
        log = (self.folder / "slurmd.log").read_text() if (self.folder / "slurmd.log").exists() else ""
        raise RuntimeError(f"the node did not come up: {state!r}\n{log[-2000:]}")

    def stop_node(self) -> None:
        """Stop slurmd; its jobs go on."""
        self._stop("slurmd")

    def stop(self) -> None:
        """Cancel every job and stop the daemons."""
        with contextlib.suppress(subprocess.SubprocessError):
            self.ask("scancel", "--full", "--signal=KILL", "--user=root")
        for name in reversed(DAEMONS):
            self._stop(name)

    def ask(self, *command: str) -> str:
        """Return what a Slurm command prints."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout

    def _run(self, daemon: str, *options: str) -> None:
        done = subprocess.run(
            [daemon, *options],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{daemon} did not start: {done.stdout}{done.stderr}")

    def _stop(self, daemon: str) -> None:
        file = self.folder / f"{daemon}.pid"
        try:
            number = int(file.read_text())
            os.kill(number, signal.SIGTERM)
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and Path(f"/proc/{number}").exists():
            time.sleep(0.2)


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Start or stop a cluster by hand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["start", "stop"])
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    cluster = Cluster(asked.folder)
    if asked.action == "stop":
        cluster.stop()
        return
    if reason := why_not():
        raise SystemExit(reason)
    cluster.start()
    print(f"export SLURM_CONF={cluster.folder / 'slurm.conf'} PATH={cluster.folder / 'bin'}:$PATH:/usr/sbin")


if __name__ == "__main__":
    main()
