// Package config holds the one Config: every key, its default, and where its value came from.
//
// It owns parsing and precedence (defaults, then file, then environment, then flags), the honest
// refusal of keys whose feature this build lacks, and the check of DATA_DIR. It must never be lenient:
// a value that does not parse stops the start with one line that names it. It must never print a
// secret. Read the table in keys.go first, then [Load].
package config
