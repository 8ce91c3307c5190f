// Package runqlat measures how long runnable tasks wait for a CPU.
package runqlat
