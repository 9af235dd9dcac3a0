#!/usr/bin/env bash
#SBATCH --job-name=fastlm-prepare
#SBATCH --time=02:00:00
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --output=%x-%j.out
#
# Download a corpus, train its tokenizer, write the token files. This needs no GPU; run it once.
# A job that was interrupted continues when it is submitted again:
#   sbatch slurm/prepare.sh
# Environment variables: CORPUS (owt or tinystories), VOCAB_SIZE, DATA (folder to make), TEXT (a
# text to use in place of a download), PYTHON, and FASTLM_MIRROR or HF_ENDPOINT for a mirror.
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"
corpus=${CORPUS:-owt}
vocab_size=${VOCAB_SIZE:-32000}
data=${DATA:-data/$corpus-v$vocab_size}
python=${PYTHON:-.venv/bin/python}

echo "$(date -u +%FT%TZ) prepare: $corpus, vocab_size $vocab_size, into $data"
# A text that is there is compared with the one that the data were made of; a download is not made
# again for that.
if [ ! -e "$data/meta.json" ] || [ -e "${TEXT:-}" ]; then
  text=${TEXT:-data/$corpus}
  if [ -z "${TEXT:-}" ]; then
    "$python" -m fastlm.corpus "$corpus" --out "$text"
  fi
  "$python" -m fastlm.data prepare "$text" --vocab-size "$vocab_size" --out "$data"
fi
echo "$(date -u +%FT%TZ) prepare: done"
