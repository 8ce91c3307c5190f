#!/bin/sh
# Runs every fuzz target for the time given (default 20s); a found input fails and stays in testdata.
set -eu
time="${1:-20s}"
for dir in $(git ls-files '*_test.go' | xargs grep -lE '^func Fuzz' | xargs -n1 dirname | sort -u); do
	for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go | cut -c6- | sort -u); do
		echo "fuzz ./$dir $target $time"
		"${GO:-go}" test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "./$dir"
	done
done
