#!/usr/bin/env bash
# The first hour of a researcher who compares two methods: the same rows and seeds, LoRA and DoRA, side by side.
#
#     mkdir first && cd first && bash ../examples/first-hour/researcher.sh
#
# FEW="--set train.max_steps=2 ..." makes the runs short.
source "$(dirname "${BASH_SOURCE[0]}")/step.sh"

for method in lora dora; do
  for seed in 1 2; do
    # shellcheck disable=SC2086  # FEW holds several words
    step whinchat run demo --set adapter.method=$method --set train.seed=$seed --out "runs/$method-$seed" ${FEW:-}
  done
done
step whinchat compare runs/lora-1 runs/lora-2 runs/dora-1 runs/dora-2 --out figures
test -s figures/comparison.png
step whinchat arena --list
whinchat arena vader-curve --yaml > mine.yaml
refused whinchat arena mine.yaml --set data.source=nofile.csv
