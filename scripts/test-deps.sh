#!/bin/sh
# Installs the Debian packages the tests drive: web server and load, files, streams, namespaces,
# and what fetches and runs a Neo4j.
# Does nothing when all are there, and only says what is missing when it may not install.
set -eu

missing=""
need() { # command package
	command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"
}
need nginx nginx-light
need wrk wrk
need fio fio
need redis-server redis-server
need ip iproute2
need iperf3 iperf3
need javac openjdk-17-jdk-headless
need mvn maven
need tuned tuned

[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
	echo "test-deps: missing$missing; run as root to install them, their tests are skipped" >&2
	exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
	echo "test-deps: missing$missing and there is no apt-get; their tests are skipped" >&2
	exit 0
fi

# The packages' services must not start: a policy that says no, taken away again.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod +x "$policy"
	trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086
apt-get install -q -y --no-install-recommends $missing
