#!/usr/bin/env bash
# The first hour of an engineer with 5,000 tickets in 12 categories: from a table to a labelled table.
#
#     mkdir first && cd first && bash ../examples/first-hour/tickets.sh
#
# FEW="--set train.max_steps=2 ..." makes the run short; ROWS=600 makes the table short.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/step.sh"

step python3 "$here/make_tickets.py" "${ROWS:-5000}"
step whinchat init tickets.csv --yes
step whinchat recipes check tickets.yaml
# shellcheck disable=SC2086  # FEW holds several words
step whinchat run tickets.yaml ${FEW:-}
step whinchat predict runs/tickets "I was charged twice for one order"
head -40 tickets.csv > new.csv
step whinchat predict runs/tickets new.csv --out labelled.csv
test "$(wc -l < labelled.csv)" = 40
# Mistakes that people make: each is one clear error, and nothing is lost.
refused whinchat recipes check tickets.yaml --set data.label_column=categories
refused whinchat predict runs/tickets new.csv --out labelled.csv --text-column text
refused whinchat init tickets.csv --yes
