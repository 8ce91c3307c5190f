// Package drops counts the packets the kernel dropped, by the reason it gives.
//
// It owns the list of reasons that have a series of their own: those that a full queue, a limit or a
// missing listener explains. It must never trust a reason's number, which moves between kernels: names come
// from the running kernel's types. Read [New] first.
package drops
