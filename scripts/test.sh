#!/bin/sh
# Runs `go test -v` with the arguments given, prints failures, package results and, at the end, how
# many tests passed, failed and were skipped, each skip with its reason, each failure with its last lines.
# Exit status is go test's.
set -u
log="$(mktemp)"
trap 'rm -f "$log" "$log.rc"' EXIT
echo "go test -v $*"
{ "${GO:-go}" test -v "$@" 2>&1; echo $? >"$log.rc"; } | tee "$log" |
	grep --line-buffered -vE '^(=== (RUN|PAUSE|CONT|NAME)|[[:space:]]*--- PASS:|PASS$)' |
	grep --line-buffered -vE 'no test files'
rc="$(cat "$log.rc")"
awk '
	/^=== (RUN|NAME|CONT) / { name = $3; next }
	/^(ok|FAIL|\?)[ \t]/ { if ($1 == "FAIL") packages = packages "  " $2 "\n"; name = ""; next }
	/^[[:space:]]*--- PASS:/ { pass++; next }
	/^[[:space:]]*--- FAIL:/ { fail++; failed[fail] = $3; next }
	/^[[:space:]]*--- SKIP:/ { skip++; why[$3] = last[$3]; next }
	/_test\.go:[0-9]+:/ { text = $0; sub(/^[^:]*:[0-9]+: /, "", text); last[name] = text }
	name != "" { tail[name] = substr(tail[name] "\n    " substr($0, 1, 400), length(tail[name]) > 4000 ? 401 : 1) }
	END {
		printf "\ntests: %d passed, %d failed, %d skipped\n", pass, fail, skip
		for (n in why) printf "  skipped %s: %s\n", n, why[n]
		for (i = 1; i <= fail; i++) printf "  failed %s%s\n", failed[i], tail[failed[i]]
		if (packages != "") printf "packages that failed:\n%s", packages
	}' "$log"
exit "$rc"
