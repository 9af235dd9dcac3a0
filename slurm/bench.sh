#!/usr/bin/env bash
#SBATCH --job-name=fastlm-bench
#SBATCH --time=00:30:00
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --output=%x-%j.out
#
# Measure the kernels, the tokenizer and training steps on a GPU, with peers in the same run:
#   sbatch slurm/bench.sh [more flags of pytest]
# Environment variables: RESULT (the JSON file to write), PYTHON.
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"
python=${PYTHON:-.venv/bin/python}
result=${RESULT:-out/bench-${SLURM_JOB_ID:-local}.json}

mkdir -p "$(dirname "$result")"
echo "$(date -u +%FT%TZ) bench: on $(hostname), into $result"
"$python" -m pytest --benchmark-only --benchmark-json "$result" "$@"
echo "$(date -u +%FT%TZ) bench: done after $SECONDS s of wall-clock"
