#!/usr/bin/env bash
#SBATCH --job-name=fastlm-tune
#SBATCH --time=00:20:00
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --output=%x-%j.out
#
# Measure which settings train a recipe fastest on a GPU, before slurm/leaderboard.sh uses them:
#   sbatch slurm/tune.sh [more flags of fastlm.tune]
# Environment variables: DATA and RECIPE as in slurm/leaderboard.sh, MINUTES, PYTHON.
# The result lies in the user's cache folder, where every later run on such a GPU finds it, and what
# was found until then also if the job is cancelled. Where nodes do not share that folder, give
# --out FILE here, and --tuned FILE to slurm/leaderboard.sh.
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"
python=${PYTHON:-.venv/bin/python}
recipe=${RECIPE:-leaderboard}
data=${DATA:-data/owt-v32000}

echo "$(date -u +%FT%TZ) tune: $recipe with $data on $(hostname)"
# exec: scancel's SIGTERM reaches the program, which then writes what it knows.
exec "$python" -m fastlm.tune --recipe "$recipe" --data "$data" --minutes "${MINUTES:-15}" "$@"
