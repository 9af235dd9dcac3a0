#!/usr/bin/env bash
#SBATCH --job-name=fastlm-sweep
#SBATCH --time=01:30:00
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --output=%x-%A-%a.out
#
# Train one run for each line of a file of flags of fastlm.train, as an array job:
#   sbatch --array=1-$(grep -c '' rates.txt) slurm/sweep.sh rates.txt [flags for all of them]
# Environment variables: DATA, RECIPE, TIME_BUDGET, PYTHON as in slurm/leaderboard.sh, and OUT, the
# folder that gets a run for each line: 1, 2, ... An array that was cancelled resumes with the OUT
# that its output names.
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"
file=${1:?usage: sbatch --array=1-N slurm/sweep.sh FILE [flags]}
shift
line=$(sed -n "${SLURM_ARRAY_TASK_ID:?needs sbatch --array=1-N}p" "$file")
if [ -z "${line// /}" ]; then
  n_lines=$(grep -c '' "$file")
  echo "error: line $SLURM_ARRAY_TASK_ID of $file is empty; --array=1-$n_lines runs all" >&2
  exit 2
fi
read -ra flags <<<"$line"
export OUT=${OUT:-out/sweep-${SLURM_ARRAY_JOB_ID:-local}}/$SLURM_ARRAY_TASK_ID
echo "run $SLURM_ARRAY_TASK_ID of $file, OUT=${OUT%/*}: $line"
exec bash slurm/leaderboard.sh "${flags[@]}" "$@"
