#!/usr/bin/env bash
#SBATCH --job-name=fastlm-multinode
#SBATCH --time=01:30:00
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --output=%x-%j.out
#
# Train with one process per GPU, on all GPUs of several nodes, on data that slurm/prepare.sh made:
#   sbatch --nodes=4 slurm/multinode.sh [more flags of fastlm.train, such as --parallel fsdp]
# Environment variables: DATA, OUT (folder of the run, which all nodes can read), RECIPE,
# TIME_BUDGET, PYTHON, PROCESSES (number on each node).
# A job that is stopped early saves. At its time limit it requeues itself and resumes. After scancel
# it does not, nor after preemption, where Slurm may requeue it: the end of its output then names the
# OUT with which the same command resumes, as the folder is named after the job otherwise.
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"
data=${DATA:-data/owt-v32000}
out=${OUT:-out/multinode-$SLURM_JOB_ID}
python=${PYTHON:-.venv/bin/python}
processes=${PROCESSES:-${SLURM_GPUS_ON_NODE:-1}}
first_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# How long torchrun gives its processes to save before it kills them.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=150

# The trainer saves and exits before this time even if no signal comes.
if [ -z "${SLURM_JOB_END_TIME:-}" ]; then
  end=$(squeue -h -j "$SLURM_JOB_ID" -o %e 2>/dev/null || true)
  SLURM_JOB_END_TIME=$(date -d "${end:-unknown}" +%s 2>/dev/null || true)
  export SLURM_JOB_END_TIME
fi

echo "$(date -u +%FT%TZ) start: job $SLURM_JOB_ID on $SLURM_JOB_NODELIST, data $data, run $out"
summary=$out/summary.json
identity() { stat -c '%i %y %s' "$summary" 2>/dev/null || true; }
earlier=$(identity) # an earlier job of this run wrote that one
srun --wait=180 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" "$python" -m torch.distributed.run \
  --nnodes="$SLURM_NNODES" --nproc-per-node="$processes" --rdzv-id="$SLURM_JOB_ID" \
  --rdzv-backend=c10d --rdzv-endpoint="$first_node:$((20000 + SLURM_JOB_ID % 10000))" \
  --signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGXCPU,SIGUSR1,SIGUSR2 \
  -m fastlm.train --recipe "${RECIPE:-leaderboard}" --data "$data" --out "$out" \
  --resume auto --time-budget "${TIME_BUDGET:-85m}" --compile --bf16 "$@" &
child=$!
signalled= # the first signal
# srun passes the signal on to torchrun, which passes it on to every process.
trap 'signalled=${signalled:-USR1}; echo "$(date -u +%FT%TZ) signal: saving"; kill -USR1 "$child"' USR1
trap 'signalled=${signalled:-TERM}' TERM # Slurm sends it to all processes of the job itself

code=0
wait "$child" || code=$?
while kill -0 "$child" 2>/dev/null; do # a signal ends wait before srun has ended
  code=0
  wait "$child" || code=$?
done

echo "$(date -u +%FT%TZ) end: exit code $code after $SECONDS s of wall-clock"
# torchrun exits with 1 for every exit code but 0: the summary says whether the run can resume.
written=$(identity)
if [ -n "$written" ] && [ "$written" != "$earlier" ]; then
  grep -q '"finished": false' "$summary" && grep -q '"saved": true' "$summary" && code=75
elif [ "$code" != 0 ] && [ -n "$signalled" ]; then
  code=75 # the signal came before training began
fi
if [ "$code" = 75 ] && [ "$signalled" != TERM ]; then
  scontrol requeue "$SLURM_JOB_ID"
elif [ "$code" = 75 ]; then
  printf 'to resume: the same command with OUT=%q\n' "$out"
fi
exit "$code"
