#!/usr/bin/env bash
#SBATCH --job-name=fastlm-leaderboard
#SBATCH --time=01:30:00
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --output=%x-%j.out
#
# Train the leaderboard recipe on data that slurm/prepare.sh made, inside one 90-minute job:
#   sbatch slurm/leaderboard.sh [more flags of fastlm.train]
# Environment variables: DATA, OUT (folder of the run), RECIPE, TIME_BUDGET, PYTHON.
# A new run uses what slurm/tune.sh measured on such a GPU, if it did.
# A job that is stopped early saves. At its time limit it requeues itself and resumes. After scancel
# it does not, nor after preemption, where Slurm may requeue it: the end of its output then names the
# OUT with which the same command resumes, as the folder is named after the job otherwise.
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"
data=${DATA:-data/owt-v32000}
out=${OUT:-out/leaderboard-${SLURM_JOB_ID:-local}}
python=${PYTHON:-.venv/bin/python}
# Below the job's limit: the rest is for the start of the node and the curve at the end.
time_budget=${TIME_BUDGET:-85m}

# The trainer saves and exits before this time even if no signal comes.
if [ -z "${SLURM_JOB_END_TIME:-}" ] && command -v squeue >/dev/null; then
  end=$(squeue -h -j "${SLURM_JOB_ID:-0}" -o %e 2>/dev/null || true)
  SLURM_JOB_END_TIME=$(date -d "${end:-unknown}" +%s 2>/dev/null || true)
  export SLURM_JOB_END_TIME
fi

echo "$(date -u +%FT%TZ) start: job ${SLURM_JOB_ID:-none} on $(hostname), data $data, run $out"
"$python" -m fastlm.train --recipe "${RECIPE:-leaderboard}" --data "$data" --out "$out" \
  --resume auto --time-budget "$time_budget" --compile --bf16 "$@" &
child=$!
# Slurm signals this script, which passes the signal on; the trainer then saves and exits with 75.
signalled= # the first signal
trap 'signalled=${signalled:-USR1}; echo "$(date -u +%FT%TZ) signal: saving"; kill -USR1 "$child"' USR1
trap 'signalled=${signalled:-TERM}; echo "$(date -u +%FT%TZ) signal: saving"; kill -USR1 "$child"' TERM

code=0
wait "$child" || code=$?
while kill -0 "$child" 2>/dev/null; do # a signal ends wait before the trainer has ended
  code=0
  wait "$child" || code=$?
done

echo "$(date -u +%FT%TZ) end: exit code $code after $SECONDS s of wall-clock"
if [ "$code" = 138 ]; then
  code=75 # SIGUSR1 came before Python's first line: nothing was done yet
fi
if [ "$code" = 75 ] && [ "$signalled" != TERM ] && [ -n "${SLURM_JOB_ID:-}" ] && command -v scontrol >/dev/null; then
  scontrol requeue "$SLURM_JOB_ID"
elif [ "$code" = 75 ] && [ -z "${SLURM_ARRAY_TASK_ID:-}" ]; then
  printf 'to resume: the same command with OUT=%q\n' "$out"
fi
exit "$code"
