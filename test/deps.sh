#!/bin/sh
# Installs Chromium, PostgreSQL and strace (failing fsyncs) from Debian's packages when they are missing and we may.
set -eu
missing=""
if ! command -v chromium >/dev/null 2>&1; then missing="$missing chromium"; fi
if ! command -v strace >/dev/null 2>&1; then missing="$missing strace"; fi
if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then missing="$missing postgresql"; fi
if [ -z "$missing" ]; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "not installed, and not root on Debian:$missing (the tests that need them are skipped)"
	exit 0
fi
echo "installing:$missing"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
