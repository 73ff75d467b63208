#!/usr/bin/env bash
# The first hour of an engineer who wants an API: serve a run, ask it, look at its health, stop it.
#
#     mkdir first && cd first && bash ../examples/first-hour/api.sh
#
# FEW="--set train.max_steps=2 ..." makes the run short. docs/how-to/container.md puts the same server into a container.
source "$(dirname "${BASH_SOURCE[0]}")/step.sh"

# shellcheck disable=SC2086  # FEW holds several words
step whinchat run demo ${FEW:-}
refused whinchat serve runs/nowhere
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
whinchat serve runs/demo --port "$port" > server.log 2>&1 &
server=$!
trap 'kill $server 2> /dev/null || true' EXIT
for _ in $(seq 120); do
  curl -sf "127.0.0.1:$port/ready" > /dev/null && break
  sleep 1
done
step curl -sSf "127.0.0.1:$port/v1/classify" --json '{"texts": ["what a lovely day", "meh"]}'
step curl -sSf "127.0.0.1:$port/v1/model"
step curl -sS "127.0.0.1:$port/v1/classify" --json '{"texts": 1}'
step curl -sSf -o page.html "127.0.0.1:$port/"
kill -TERM "$server"
code=0
wait "$server" || code=$?
test "$code" = 0 || test "$code" = 143
trap - EXIT
