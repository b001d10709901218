#!/bin/sh
# Serves the show and plays a song contest into it, until Ctrl-C. Arguments go to `laaster run`; VOTE_PLAY holds flags of the
# player, such as VOTE_PLAY="--year 1974 --speed 4".
set -eu
cd "$(dirname "$0")/../.."
mkdir -p bin
go build -trimpath -o bin/vote-play ./examples/vote/play

bin/laaster run examples/vote "$@" &
server=$!
# shellcheck disable=SC2086 # the flags are words
bin/vote-play ${VOTE_PLAY:---again} &
player=$!
trap 'kill "$player" "$server" 2>/dev/null || true' INT TERM

code=0
wait "$server" || code=$?
kill "$player" 2>/dev/null || true
wait "$player" 2>/dev/null || true
exit "$code"
