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
# From the environment: DATA, OUT (folder of the run), RECIPE, TIME_BUDGET, PYTHON.
# A job that is stopped early saves, and goes on where it was when it is submitted again.
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"
data=${DATA:-data/owt-v32000}
out=${OUT:-out/leaderboard-${SLURM_JOB_ID:-local}}
python=${PYTHON:-.venv/bin/python}
# Below the job's limit: what is left over is start-up of the node and the curve at the end.
time_budget=${TIME_BUDGET:-85m}

echo "$(date -u +%FT%TZ) start: job ${SLURM_JOB_ID:-none} on $(hostname), data $data, run $out"
"$python" -m fastlm.train --recipe "${RECIPE:-leaderboard}" --data "$data" --out "$out" \
  --resume auto --time-budget "$time_budget" --compile --bf16 "$@" &
child=$!
# The signal goes to this script; the trainer saves and leaves with 75 when it is passed on.
trap 'echo "$(date -u +%FT%TZ) signal: saving"; kill -USR1 "$child"' USR1 TERM

code=0
wait "$child" || code=$?
while kill -0 "$child" 2>/dev/null; do # a signal ends wait before the trainer has ended
  code=0
  wait "$child" || code=$?
done

echo "$(date -u +%FT%TZ) end: exit code $code after $SECONDS s of wall-clock"
if [ "$code" = 75 ] && [ -n "${SLURM_JOB_ID:-}" ] && command -v scontrol >/dev/null; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
