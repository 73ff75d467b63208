#!/usr/bin/env bash
# The first hour of a student with a laptop: the demo, an answer, the report, and a recipe of one's own.
#
#     mkdir first && cd first && bash ../examples/first-hour/student.sh
#
# FEW="--set train.max_steps=2 ..." makes the runs short.
source "$(dirname "${BASH_SOURCE[0]}")/step.sh"

step whinchat doctor
step whinchat recipes list
# shellcheck disable=SC2086  # FEW holds several words
step whinchat run demo ${FEW:-}
step whinchat predict runs/demo "what a lovely day" "meh"
refused whinchat run demo
whinchat recipes show demo > mine.yaml
step whinchat recipes check mine.yaml
# shellcheck disable=SC2086
step whinchat run mine.yaml --set train.seed=7 ${FEW:-}
step whinchat runs
test -s runs/demo/report.html
test -s runs/demo/README.md
