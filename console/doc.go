// Package console is the one HTTP server: four read-only resources on TCP, the control plane on a unix
// socket.
//
// It owns routes, the strict reading of requests, who may speak (Host on TCP, peer credentials on the
// socket), RFC 9457 problems and the metrics page. It must never decide, diagnose or write a tunable: a
// handler reads its request, calls one interface of api.go and prints what came back. The contract is
// openapi.yaml in the module's root. Read api.go first, then health.go as the smallest resource.
package console
