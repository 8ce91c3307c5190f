// Package telemetrytest is what telemetry's tests stand on: a machine made of plain files, and the
// checks every collector must pass.
//
// It owns the [Tree], the fake [Sockets] and [Suite]. It must never touch the real machine. Read
// [Suite] first.
package telemetrytest
