# Sourced by the scripts in this folder.
set -euo pipefail

# Run a command, show what it prints, and say how many seconds of CPU it took and how many lines it printed.
step() {
  echo
  echo "\$ $*"
  local lines cpu
  lines=$(mktemp) cpu=$(mktemp)
  local TIMEFORMAT='%U %S' code=0
  { time "$@" > >(tee "$lines") 2>&1; } 2> "$cpu" || code=$?
  sleep 0.1 # tee may still be writing
  [ -z "$(tail -c 1 "$lines")" ] || echo
  awk -v lines="$(awk 'END { print NR }' "$lines")" -v code="$code" \
    'END { printf "-- %.1f s of CPU, %d lines, exit code %d\n", $1 + $2, lines, code }' "$cpu"
  rm -f "$lines" "$cpu"
  return "$code"
}

# The same for a command that must fail.
refused() {
  if step "$@"; then
    echo "this should have been refused"
    return 1
  fi
}
