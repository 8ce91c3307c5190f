// Package keyvalue is redis in a memory-limited control group, beside a job of the same group that reads
// files: a store and its backup in one container. Memory of the store and cached pages of the files compete
// for the group's limit.
//
// It must not change tunables; the group and its limit are the caller's. Read [Load.Measure] first.
package keyvalue
