"""A Slurm of one node, in a folder, for tests: the daemons of Debian's slurm-wlm and munge.

The node claims GPUs and memory that are not there, so that jobs are accepted as on a real cluster.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")

_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
MpiDefault=none
KillWait=20
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=200000 Gres=gpu:1 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def is_installed() -> bool:
    """Whether the daemons are there and may be started."""
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    return (
        os.name == "posix"
        and os.geteuid() == 0
        and all(shutil.which(d, path=path) for d in DAEMONS)
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Controller:
    """A cluster that runs inside `with`; `environment` has the settings for submitting to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        host = socket.gethostname().split(".")[0]
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        configuration = _CONFIGURATION.format(
            host=host, folder=folder, controller_port=_free_port(), node_port=_free_port()
        )
        (folder / "slurm.conf").write_text(configuration)
        (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File=/dev/null\n")
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o400)
        self.environment = os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": os.environ["PATH"] + ":/usr/sbin",
        }
        self.daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Controller":
        folder = self.folder
        self._start(
            *("munged", "--foreground", "--force", f"--socket={folder}/munge.socket"),
            *(f"--key-file={folder}/munge.key", f"--pid-file={folder}/munge.pid"),
            *(f"--seed-file={folder}/munge.seed", f"--log-file={folder}/munge.log"),
        )
        self.wait_for(lambda: (folder / "munge.socket").exists(), "munged")
        self._start("slurmctld", "-D", "-f", str(folder / "slurm.conf"))
        self._start("slurmd", "-D", "-f", str(folder / "slurm.conf"))
        self.wait_for(lambda: "idle" in self._ask("sinfo", "-h", "-o", "%T"), "the node")
        return self

    def __exit__(self, *exception: object) -> None:
        self._ask("scancel", "--user=root", "--signal=KILL", "--full")  # what a failed test left
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(self.daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def _start(self, *command: str) -> None:
        self.daemons.append(
            subprocess.Popen(
                command,
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=open(self.folder / f"{command[0]}.err", "wb"),  # noqa: SIM115
            )
        )

    def _ask(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=600
        )
        return done.stdout.strip()

    def wait_for(self, happened: Callable[[], bool], what: str, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > deadline:
                logs = "\n".join(
                    path.read_text(errors="replace")[-3000:]
                    for path in [*self.folder.glob("*.log"), *self.folder.glob("*.err")]
                )
                raise TimeoutError(f"waited {seconds:g} s for {what}:\n{logs}")
            time.sleep(0.1)

    def submit(
        self, script: Path, *arguments: str, flags: Sequence[str] = (), **environment: str
    ) -> str:
        """sbatch a script; returns the job's number."""
        done = subprocess.run(
            ["sbatch", "--parsable", *flags, str(script), *arguments],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    def state(self, job: str) -> str:
        """Return PENDING, RUNNING, COMPLETED or the like, or "" if it ended a while ago."""
        return self._ask("squeue", "-h", "-t", "all", "-j", job, "-o", "%T").split("\n")[0]

    def send(self, job: str, name: str) -> None:
        """Signal the batch script of a running job."""
        self._ask("scancel", "--batch", f"--signal={name}", job)

    def cancel(self, job: str) -> None:
        self._ask("scancel", job)

    def n_restarts(self, job: str) -> int:
        shown = self._ask("scontrol", "show", "job", job)
        return int(shown.split("Restarts=")[1].split()[0])

    def wait_for_end(self, job: str, seconds: float = 900) -> str:
        ends = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
        self.wait_for(lambda: self.state(job) in ends, f"job {job}", seconds)
        return self.state(job)
