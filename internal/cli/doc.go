// Package cli is the command line, and the only place where rooms are wired together.
//
// It owns commands, tables, JSON documents, exit statuses, and the small adapters that let one room
// drive another. It must never decide: no diagnosis, no statistics, no write to the machine. Read
// [Main] first, then exit.go (which error gives which status), then one command, say history.go.
package cli
